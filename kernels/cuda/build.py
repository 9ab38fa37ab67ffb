#!/usr/bin/env python3
"""Compiles the kernels into images/, which the program embeds: nobody but who changes a kernel needs a CUDA compiler.

    python3 kernels/cuda/build.py [--check] [--toolchain FOLDER]

Needs Linux on x86-64, Python 3.9 with pip, and no GPU. What toolchain.txt names is installed once into FOLDER, by
default under the cargo target folder. The same sources give the same bytes, in any folder; --check compiles without
writing anything and fails if images/ holds something else.

The gate: on every architecture no kernel spills, has a stack frame or needs more registers than its EXPORT allows;
every kernel has an EXPORT; compiler and assembler have no complaints.

Images, chosen from by `src/cuda.rs`:
    sm_80.cubin     devices 8.0 to 8.9
    sm_90a.cubin    devices 9.0
    compute_80.ptx  later devices: the driver compiles it
    manifest.txt    sums of sources and images, and what each kernel needs; src/cuda.rs reads its first line
"""

import argparse
import concurrent.futures
import ctypes
import hashlib
import os
import pathlib
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
IMAGES = HERE / "images"
PACKAGES = HERE / "toolchain.txt"

ARCHITECTURES = ("80", "90a")
# Only devices above 9.0 are given PTX. The first driver that knows one is R570, whose PTX is 8.7; the compiler would
# write 8.8. The assembler holds the text to it.
PTX_VERSION = "8.7"


class Refused(Exception):
    """The sources do not pass; the text says why."""


def read_sources():
    """Everything that the images depend on, by name. Read once: what is compiled is what the manifest's sum is of,
    whatever somebody writes meanwhile. tests/house/cuda_images.rs reads the same.
    """
    suffixes = (".cu", ".cuh", ".py", ".txt")
    return {path.name: path.read_bytes() for path in sorted(HERE.iterdir()) if path.suffix in suffixes}


def sum_of(sources):
    total = hashlib.sha256()
    for name, content in sources.items():
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


# Toolchain -----------------------------------------------------------------------------------------------------------


def install(folder):
    """The packages' folder; they are installed if it is not there."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Refused("toolchain.txt pins the packages for Linux on x86-64 only")
    # A name for each list: another one is another toolchain.
    folder = folder / f"cuda-{hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: half a toolchain is none.
        with tempfile.TemporaryDirectory(dir=folder.parent) as half:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            pip += ["--root-user-action", "ignore", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
            pip += ["--requirement", str(PACKAGES), "--target", f"{half}/toolchain"]
            subprocess.run(pip, check=True)
            os.rename(f"{half}/toolchain", folder)
    return folder / "nvidia"


class Compiler:
    """NVRTC, through its C functions."""

    def __init__(self, toolchain):
        libraries = toolchain / "cuda_nvrtc/lib"
        # Loaded by name later: here, so that it is this one.
        ctypes.CDLL(str(libraries / "libnvrtc-builtins.so.12.9"))
        self.library = ctypes.CDLL(str(libraries / "libnvrtc.so.12"))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.include = toolchain / "cuda_runtime/include"

    def call(self, function, *arguments):
        status = getattr(self.library, function)(*arguments)
        if status != 0:
            raise Refused(f"{function}: {self.library.nvrtcGetErrorString(status).decode()}")

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, text)
        return text.value.decode()

    def ptx(self, sources, architecture):
        # Given as texts with names, so that no path can get into the image and nothing else is found.
        headers = [name for name in sources if name.endswith((".cu", ".cuh")) and name != "kernels.cu"]
        options = [f"--gpu-architecture=compute_{architecture}", "--std=c++17", "--no-source-include"]
        # Without it a generic lambda is host code: it has no annotation that the twin's compiler takes too.
        options += ["--device-as-default-execution-space", f"--include-path={self.include}"]

        def strings(texts):
            return (ctypes.c_char_p * len(texts))(*texts)

        program = ctypes.c_void_p()
        names, texts = strings([name.encode() for name in headers]), strings([sources[name] for name in headers])
        main = sources["kernels.cu"]
        self.call("nvrtcCreateProgram", ctypes.byref(program), main, b"kernels.cu", len(headers), texts, names)
        arguments = strings([option.encode() for option in options])
        failed = self.library.nvrtcCompileProgram(program, len(options), arguments)
        log = self.text(program, "ProgramLog").strip()
        if failed or log:
            raise Refused(log or "the compiler failed without a word")
        return self.text(program, "PTX")


# Compilation and gate ------------------------------------------------------------------------------------------------


def compile_for(sources, architecture, toolchain):
    """PTX, image, and for each kernel its row of the manifest's table."""
    ptx = Compiler(toolchain).ptx(sources, architecture)
    ptx = re.sub(r"^\.version .*$", f".version {PTX_VERSION}", ptx, count=1, flags=re.MULTILINE)
    # What EXPORT left.
    allowed = {name: int(count) for name, count in re.findall(r"\bregisters_of_(\w+) = (\d+);", ptx)}
    ptx = re.sub(r"^.*\bregisters_of_\w+ = \d+;\n", "", ptx, flags=re.MULTILINE)
    threads = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", ptx))

    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "kernels.ptx").write_text(ptx)
        command = [str(toolchain / "cuda_nvcc/bin/ptxas"), "--verbose", f"--gpu-name=sm_{architecture}"]
        command += ["kernels.ptx", "--output-file", "kernels.cubin"]
        run = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if run.returncode != 0:
            raise Refused(run.stdout)
        image = pathlib.Path(folder, "kernels.cubin").read_bytes()

    frames = re.findall(r"Function properties for (\w+)\n *(\d+) bytes stack frame, (\d+) .*?, (\d+) ", run.stdout)
    used = re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers(.*?)\n", run.stdout, re.DOTALL)
    complaints = [line for line in run.stdout.splitlines() if "warning" in line.lower()]
    complaints += [f"{name} has a stack frame or spills ({stack} bytes, {stores} stored, {loads} loaded)"
                   for name, stack, stores, loads in frames if (stack, stores, loads) != ("0", "0", "0")]
    complaints += [f"{name} needs {count} registers; its EXPORT allows {allowed[name]}"
                   for name, count, _ in used if int(count) > allowed.get(name, 255)]
    kernels = {name for name, _, _ in used}
    complaints += [f"{name} is a kernel without an EXPORT" for name in sorted(kernels - allowed.keys())]
    complaints += [f"{name} has an EXPORT and is no kernel" for name in sorted(allowed.keys() - kernels)]
    complaints += [f"{name} has no __launch_bounds__" for name in sorted(kernels - threads.keys())]
    if complaints:
        raise Refused("\n".join(f"sm_{architecture}: {complaint}" for complaint in complaints))

    sizes = code_sizes(image)
    shared = {name: re.search(r"(\d+) bytes smem", rest) for name, _, rest in used}
    rows = {name: (threads[name], allowed[name], count, shared[name][1] if shared[name] else 0, sizes[name])
            for name, count, _ in used}
    return ptx.encode(), image, rows


def code_sizes(image):
    """Bytes of code of each kernel: the sections .text.KERNEL of an ELF file."""
    start, = struct.unpack_from("<Q", image, 0x28)
    entry, count, names = struct.unpack_from("<HHH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", image, start + entry * i) for i in range(count)]
    texts = sections[names][4]

    def name(section):
        begin = texts + section[0]
        return image[begin : image.index(b"\0", begin)].decode()

    return {name(section)[6:]: section[5] for section in sections if name(section).startswith(".text.")}


def build(toolchain):
    """Names and contents of everything in images/."""
    sources = read_sources()
    listed = set(re.findall(r'^#include "(\w+\.cu)"', sources["kernels.cu"].decode(), re.MULTILINE))
    forgotten = {name for name in sources if name.endswith(".cu")} - listed - {"kernels.cu"}
    if forgotten:
        raise Refused(f"kernels.cu does not include {', '.join(sorted(forgotten))}")

    with concurrent.futures.ProcessPoolExecutor() as pool:
        jobs = [pool.submit(compile_for, sources, architecture, toolchain) for architecture in ARCHITECTURES]
        results = dict(zip(ARCHITECTURES, [job.result() for job in jobs]))
    files = {f"sm_{architecture}.cubin": image for architecture, (_, image, _) in results.items()}
    files["compute_80.ptx"] = results["80"][0]

    lines = [f"sources {sum_of(sources)}"]
    lines += [f"{name} {hashlib.sha256(content).hexdigest()} {len(content)} bytes" for name, content in files.items()]
    lines += re.findall(r"^[\w-]+==[\w.]+", sources[PACKAGES.name].decode(), re.MULTILINE)
    for architecture, (_, _, rows) in results.items():
        lines += ["", f"{'sm_' + architecture:28}threads  allowed  registers  static shared bytes  code bytes"]
        lines += [f"{name:28}{row[0]:>7}  {row[1]:>7}  {row[2]:>9}  {row[3]:>19}  {row[4]:>10}"
                  for name, row in sorted(rows.items())]
    files["manifest.txt"] = ("\n".join(lines) + "\n").encode()
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if images/ is not what is built")
    parser.add_argument("--toolchain", type=pathlib.Path, default=TARGET / "cuda-toolchain", metavar="FOLDER")
    arguments = parser.parse_args()
    try:
        files = build(install(arguments.toolchain.absolute()))
    except Refused as refused:
        sys.exit(f"build.py: {refused}")

    if arguments.check:
        present = {path.name: path.read_bytes() for path in IMAGES.iterdir()} if IMAGES.exists() else {}
        differing = sorted(name for name in files.keys() | present.keys() if files.get(name) != present.get(name))
        if differing:
            sys.exit(f"build.py: not what the sources give: {', '.join(differing)}; run kernels/cuda/build.py")
        return
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir()
    for name, content in files.items():
        (IMAGES / name).write_bytes(content)
    print(files["manifest.txt"].decode(), end="")


if __name__ == "__main__":
    main()
