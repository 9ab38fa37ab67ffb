// The runtime of programs in JavaScript: QuickJS, and between it and the contract of `wit/` what is in the files here.
//
//   main.c   the component's exports, the script, and the loop that waits for the host
//   host.c   the contract's functions, as a script calls them
//   wasi.c   standard output, clocks and random numbers
//
// One instance serves one run, so all state is global and nothing is ever taken down.
#ifndef SGLHOST_RUNTIME_H
#define SGLHOST_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quickjs.h"

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

// main.c

// Memory that the host fills or reads. Never NULL: without memory the run traps.
void *take(size_t bytes);

// host.c

// The contract's functions as an object: `{ contextCreate, contextAppend, … }`.
JSValue host_functions(JSContext *ctx);
// Whether the script waits for the host.
bool host_is_waited_for(void);
// Waits until one of the things that the script waits for is there, and settles its promise.
void host_wait(JSContext *ctx);

// wasi.c

// Writes to standard output (1) or standard error (2). What cannot be written is lost.
void write_output(int stream, const char *bytes, size_t length);
// A number from 0 up to 1.
double random_number(void);

#endif
