// Streams, and what orders their work: moments (what events record), and captures into graphs.
//
// Unless `set_lazy(false)`, work is only queued when it is issued. It runs when the host waits for it, as late as a
// device might run it: so a host that overwrites what a copy has yet to read, or reads what has yet to be written, gets
// wrong results here too. A stream runs its own work only, and that of others up to the moments it waits for.
//
// All of it is guarded by the lock that each call of the driver holds (cuda.h).
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "status.h"
#include "types.h"

namespace twin {

struct Stream;

// Something to do on the device, perhaps many times (in a graph).
struct Work {
    // As it shall appear in messages; a kernel's name, or what kind of copy. Lives as long as the process.
    const char* name;
    std::function<void()> perform;
};

// A place in the work of a stream.
struct Moment {
    std::shared_ptr<Stream> stream;
    bool reached = false;
    std::chrono::steady_clock::time_point time;
};

enum class CaptureMode { Global, ThreadLocal, Relaxed };

// Work that is recorded instead of done, in one or several streams.
struct Capture {
    u64 number;
    CaptureMode mode;
    std::thread::id thread;
    Stream* origin;
    bool invalid = false;
    // In the order in which it was issued, which satisfies all dependencies.
    std::vector<Work> work;
    // How much work each stream has issued, and how much of that the origin depends on, perhaps through others.
    struct Branch {
        u64 issued = 0;
        u64 joined = 0;
    };
    std::map<Stream*, Branch> branches;
};

struct Stream {
    // Whether it and the null stream wait for each other.
    bool blocking;
    std::deque<Work> queue;
    std::shared_ptr<Capture> capture;
};

struct Event {
    bool timed;
    // What it has recorded last: a moment, or a place in a capture.
    std::shared_ptr<Moment> moment;
    std::weak_ptr<Capture> capture;
    Stream* captured_stream = nullptr;
    u64 captured_issued = 0;
    bool captured = false;
    // Whether the host has been told that the moment is not reached yet.
    bool told = false;
};

struct Graph {
    std::shared_ptr<const std::vector<Work>> work;
};
// A graph that can be launched.
struct Executable {
    std::shared_ptr<const std::vector<Work>> work;
};

// Issues work, or records it if the stream is capturing.
CUresult issue(const std::shared_ptr<Stream>& stream, Work work);
// Does all that was issued to the stream.
void run(Stream& stream);
void run_all();
void run_until(const Moment& moment);

CUresult record(Event& event, const std::shared_ptr<Stream>& stream);
CUresult wait(const std::shared_ptr<Stream>& stream, const Event& event);

CUresult begin_capture(const std::shared_ptr<Stream>& stream, CaptureMode mode);
CUresult end_capture(const std::shared_ptr<Stream>& stream, std::shared_ptr<const std::vector<Work>>& work);
// For a call that CUDA calls unsafe while captures are under way: refuses it, and invalidates them, as their modes say.
CUresult refuse_while_capturing();
// For a call that waits for the stream, or for the whole device.
CUresult refuse_if_capturing(Stream& stream);
CUresult refuse_if_any_capturing();

std::shared_ptr<Stream> null_stream();
std::shared_ptr<Stream> create_stream(bool blocking);
void destroy_stream(const std::shared_ptr<Stream>& stream);

void set_lazy(bool lazy);
bool lazy();

}  // namespace twin
