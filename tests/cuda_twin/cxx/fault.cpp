#include "fault.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "thread.h"

namespace twin {

TWIN_LOCAL const char* running = nullptr;

namespace {

Describe descriptions[4];
int description_count = 0;

// Where a thread's signal handler runs: a fiber may have no room for it.
struct SignalStack {
    char bytes[64 * 1024];
};

struct sigaction previous_actions[2];

// Written in the signal handler, so nothing here allocates.
[[noreturn]] void end(const char* text) {
    char who[256] = "", where[128] = "", line[2048];
    if (running) snprintf(who, sizeof who, "%s%s", block ? "kernel " : "", running);
    if (running && block) {
        auto& at = block->index;
        int length = snprintf(where, sizeof where, " block (%u,%u,%u)", at.x, at.y, at.z);
        if (thread) snprintf(where + length, sizeof where - length, " thread %u", thread->number);
    }
    size_t length = snprintf(line, sizeof line, "twin: %s%s%s%s\n", who, where, running ? ": " : "", text);
    [[maybe_unused]] auto written = write(STDERR_FILENO, line, std::min(length, sizeof line - 1));
    _exit(FAULT_STATUS);
}

void on_signal(int signal, siginfo_t* info, void* context) {
    if (running) {
        char what[512] = "no memory of the device";
        // An address that is not even one, and some misaligned accesses, come without it.
        if (info->si_code == SI_KERNEL)
            snprintf(what, sizeof what, "misaligned, or no address at all");
        else
            for (int i = 0; i < description_count && !descriptions[i](info->si_addr, what, sizeof what); i++) {}
        char text[1024];
        snprintf(text, sizeof text, "illegal memory access at %p: %s", info->si_addr, what);
        end(text);
    }
    auto& previous = previous_actions[signal == SIGBUS];
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(signal, info, context);
    else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)
        sigaction(signal, &previous, nullptr);  // and again, by returning
    else
        previous.sa_handler(signal);
}

}  // namespace

void fatal(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    end(text);
}

void add_description(Describe describe) {
    static std::mutex mutex;
    std::lock_guard lock(mutex);
    if (description_count < static_cast<int>(std::size(descriptions))) descriptions[description_count++] = describe;
}

void catch_illegal_accesses() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &action, &previous_actions[0]);
        sigaction(SIGBUS, &action, &previous_actions[1]);
    });
    stack_t stack;
    sigaltstack(nullptr, &stack);
    // What Rust gives its threads has no room for the message.
    if (!(stack.ss_flags & SS_DISABLE) && stack.ss_size >= sizeof(SignalStack)) return;
    // Never freed: the thread may outlive anything that would free it.
    stack = {.ss_sp = new SignalStack, .ss_flags = 0, .ss_size = sizeof(SignalStack)};
    sigaltstack(&stack, nullptr);
}

}  // namespace twin
