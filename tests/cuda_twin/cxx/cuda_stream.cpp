// The driver's streams, events and graphs.
#include "cuda.h"

using namespace twin;

namespace {

Handles<Stream> streams;
Handles<Event> events;
Handles<Graph> graphs;
Handles<Executable> executables;

constexpr u32 NON_BLOCKING = 1;
constexpr u32 DISABLE_TIMING = 2;
constexpr u64 DEVICE_LAUNCH = 4;

#define FIND(kind, name, handle)      \
    auto name = kind##s.find(handle); \
    REQUIRE(name, CUDA_ERROR_INVALID_HANDLE)
#define FIND_STREAM(handle)            \
    auto stream = find_stream(handle); \
    REQUIRE(stream, CUDA_ERROR_INVALID_HANDLE)

}  // namespace

std::shared_ptr<Stream> twin::find_stream(const void* handle) {
    if (reinterpret_cast<uintptr_t>(handle) <= 1) return null_stream();
    return streams.find(handle);
}

bool twin::graphs_live() { return !executables.empty(); }

API CUresult cuStreamCreate(Stream** stream, u32 flags) {
    ENTER(Context);
    REQUIRE(flags <= NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
    *stream = streams.add(create_stream(flags != NON_BLOCKING));
    return CUDA_SUCCESS;
}
API CUresult cuStreamCreateWithPriority(Stream** stream, u32 flags, int) { return cuStreamCreate(stream, flags); }

API CUresult cuStreamDestroy_v2(Stream* handle) {
    ENTER(Context);
    FIND(stream, stream, handle);
    TRY(refuse_if_capturing(*stream));
    destroy_stream(streams.take(handle));
    return CUDA_SUCCESS;
}

API CUresult cuStreamSynchronize(Stream* handle) {
    ENTER(Context);
    FIND_STREAM(handle);
    TRY(refuse_if_capturing(*stream));
    count("synchronisations");
    run(*stream);
    return CUDA_SUCCESS;
}

// Work that waits is not ready, the first time; and has been done, the second time.
API CUresult cuStreamQuery(Stream* handle) {
    ENTER(Context);
    FIND_STREAM(handle);
    TRY(refuse_if_capturing(*stream));
    if (stream->queue.empty()) return CUDA_SUCCESS;
    run(*stream);
    return CUDA_ERROR_NOT_READY;
}

API CUresult cuStreamWaitEvent(Stream* handle, Event* event_handle, u32) {
    ENTER(Context);
    FIND_STREAM(handle);
    FIND(event, event, event_handle);
    return wait(stream, *event);
}

// Events ------------------------------------------------------------------------------------------------------------

API CUresult cuEventCreate(Event** event, u32 flags) {
    ENTER(Context);
    *event = events.add(std::make_shared<Event>());
    (*event)->timed = !(flags & DISABLE_TIMING);
    return CUDA_SUCCESS;
}

API CUresult cuEventDestroy_v2(Event* handle) {
    ENTER(Context);
    return events.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuEventRecord(Event* handle, Stream* stream_handle) {
    ENTER(Context);
    FIND(event, event, handle);
    FIND_STREAM(stream_handle);
    return record(*event, stream);
}
API CUresult cuEventRecordWithFlags(Event* event, Stream* stream, u32) { return cuEventRecord(event, stream); }

// What is not reached is not ready, the first time; and has been reached, the second time. So a host that asks again
// and again gets on, and one that asks once has to live with the answer.
API CUresult cuEventQuery(Event* handle) {
    ENTER(Context);
    FIND(event, event, handle);
    REQUIRE(!event->captured, CUDA_ERROR_CAPTURED_EVENT);
    TRY(refuse_while_capturing());
    if (!event->moment || event->moment->reached) return CUDA_SUCCESS;
    if (event->told) {
        run_until(*event->moment);
        return CUDA_SUCCESS;
    }
    event->told = true;
    return CUDA_ERROR_NOT_READY;
}

API CUresult cuEventSynchronize(Event* handle) {
    ENTER(Context);
    FIND(event, event, handle);
    REQUIRE(!event->captured, CUDA_ERROR_CAPTURED_EVENT);
    TRY(refuse_while_capturing());
    count("synchronisations");
    if (event->moment) run_until(*event->moment);
    return CUDA_SUCCESS;
}

API CUresult cuEventElapsedTime_v2(float* milliseconds, Event* start_handle, Event* end_handle) {
    ENTER(Context);
    FIND(event, start, start_handle);
    FIND(event, end, end_handle);
    REQUIRE(start->timed && end->timed && start->moment && end->moment, CUDA_ERROR_INVALID_HANDLE);
    REQUIRE(start->moment->reached && end->moment->reached, CUDA_ERROR_NOT_READY);
    *milliseconds = std::chrono::duration<float, std::milli>(end->moment->time - start->moment->time).count();
    return CUDA_SUCCESS;
}
API CUresult cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

// Captures ----------------------------------------------------------------------------------------------------------

API CUresult cuStreamBeginCapture_v2(Stream* handle, int mode) {
    ENTER(Context);
    FIND_STREAM(handle);
    REQUIRE(mode >= 0 && mode <= 2, CUDA_ERROR_INVALID_VALUE);
    return begin_capture(stream, static_cast<CaptureMode>(mode));
}

// One that a test lets fail has ended the capture all the same, as one that was invalidated.
API CUresult cuStreamEndCapture(Stream* handle, Graph** graph) {
    if (in_host_function) return CUDA_ERROR_NOT_PERMITTED;
    std::lock_guard lock(driver_lock);
    CUresult planted = check_entry(__func__, Needs::Context);
    FIND_STREAM(handle);
    *graph = nullptr;
    std::shared_ptr<const std::vector<Work>> work;
    CUresult ended = end_capture(stream, work);
    TRY(planted);
    TRY(ended);
    *graph = graphs.add(std::make_shared<Graph>(work));
    return CUDA_SUCCESS;
}

API CUresult cuStreamIsCapturing(Stream* handle, int* state) {
    ENTER(Context);
    FIND_STREAM(handle);
    *state = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
    return CUDA_SUCCESS;
}

// Of the graph that comes to be there is nothing to show.
API CUresult cuStreamGetCaptureInfo_v2(Stream* handle, int* state, u64* number, Graph** graph,
                                       const void** dependencies, size_t* dependency_count) {
    ENTER(Context);
    FIND_STREAM(handle);
    *state = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
    if (number) *number = stream->capture ? stream->capture->number : 0;
    if (graph) *graph = nullptr;
    if (dependencies) *dependencies = nullptr;
    if (dependency_count) *dependency_count = 0;
    return CUDA_SUCCESS;
}

// Graphs ------------------------------------------------------------------------------------------------------------

API CUresult cuGraphInstantiateWithFlags(Executable** executable, Graph* handle, u64 flags) {
    ENTER(Context);
    FIND(graph, graph, handle);
    REQUIRE(!(flags & DEVICE_LAUNCH), CUDA_ERROR_INVALID_VALUE);
    *executable = executables.add(std::make_shared<Executable>(graph->work));
    return CUDA_SUCCESS;
}

API CUresult cuGraphGetNodes(Graph* handle, void** nodes, size_t* node_count) {
    ENTER(Context);
    FIND(graph, graph, handle);
    REQUIRE(!nodes, CUDA_ERROR_NOT_SUPPORTED);
    *node_count = graph->work->size();
    return CUDA_SUCCESS;
}

API CUresult cuGraphDestroy(Graph* handle) {
    ENTER(Context);
    return graphs.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

API CUresult cuGraphUpload(Executable* handle, Stream* stream_handle) {
    ENTER(Context);
    FIND(executable, executable, handle);
    FIND_STREAM(stream_handle);
    return CUDA_SUCCESS;
}

API CUresult cuGraphLaunch(Executable* handle, Stream* stream_handle) {
    ENTER(Context);
    FIND(executable, executable, handle);
    FIND_STREAM(stream_handle);
    count("graph launches");
    // In a capture it would become a part of the graph; the twin has no such graphs.
    TRY(refuse_if_capturing(*stream));
    for (auto& work : *executable->work) TRY(issue(stream, work));
    return CUDA_SUCCESS;
}

API CUresult cuGraphExecDestroy(Executable* handle) {
    ENTER(Context);
    return executables.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
