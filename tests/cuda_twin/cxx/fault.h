// The end of a kernel that did what a device does not allow: a message that says who did it, and status 86.
#pragma once

#include "types.h"

namespace twin {

#define TWIN_LOCAL __attribute__((tls_model("initial-exec"))) constinit thread_local

constexpr int FAULT_STATUS = 86;

// What this thread of the operating system does for the device: a kernel's name, or words like "copy to the device".
// Null while it does nothing for it: then its illegal accesses are not the twin's business.
extern TWIN_LOCAL const char* running;

// Ends the process. The message names what is running, and the block and thread if it is a kernel.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fatal(const char* format, ...);

// Makes illegal accesses of what is running end like `fatal`. To be called on each thread that runs something.
void catch_illegal_accesses();

// Writes what is known of an address that must not be accessed; false if it is nobody's.
using Describe = bool (*)(const void* address, char* text, u64 text_bytes);
// Adds to those who are asked; a few at most.
void add_description(Describe describe);

}  // namespace twin
