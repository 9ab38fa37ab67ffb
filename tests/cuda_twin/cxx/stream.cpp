#include "stream.h"

#include <algorithm>

#include "fault.h"

namespace twin {

namespace {

bool lazy_ = true;
// Never destroyed: threads may call the driver while the process ends.
auto& streams = *new std::vector<std::shared_ptr<Stream>>;
auto& captures = *new std::vector<std::shared_ptr<Capture>>;

void run_one(Stream& stream) {
    // Taken out first: it may run other streams.
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    auto* outer = running;
    running = work.name;
    work.perform();
    running = outer;
}

std::shared_ptr<Moment> mark(const std::shared_ptr<Stream>& stream) {
    auto moment = std::make_shared<Moment>(stream);
    stream->queue.push_back({"event", [moment] {
                                 moment->reached = true;
                                 moment->time = std::chrono::steady_clock::now();
                             }});
    return moment;
}

// The null stream begins when all blocking streams have ended, and they when it has.
void wait_as_null_stream_rules(const std::shared_ptr<Stream>& stream) {
    auto null = null_stream();
    if (!stream->blocking) return;
    for (auto& other : streams) {
        if (other == stream || !other->blocking || other->queue.empty()) continue;
        if (stream != null && other != null) continue;
        stream->queue.push_back({"wait", [moment = mark(other)] { run_until(*moment); }});
    }
}

CUresult invalidate(Capture& capture, CUresult status) {
    capture.invalid = true;
    return status;
}

}  // namespace

void set_lazy(bool lazy) {
    if (!lazy) run_all();
    lazy_ = lazy;
}
bool lazy() { return lazy_; }

std::shared_ptr<Stream> null_stream() {
    static const auto& null = *new auto(create_stream(true));
    return null;
}

std::shared_ptr<Stream> create_stream(bool blocking) {
    return streams.emplace_back(std::make_shared<Stream>(blocking));
}

void destroy_stream(const std::shared_ptr<Stream>& stream) {
    run(*stream);
    std::erase(streams, stream);
}

void run(Stream& stream) {
    while (!stream.queue.empty()) run_one(stream);
}

void run_all() {
    // A copy: host functions may not call the driver, but a copy costs nothing.
    for (auto& stream : std::vector(streams)) run(*stream);
}

void run_until(const Moment& moment) {
    while (!moment.reached) run_one(*moment.stream);
}

CUresult issue(const std::shared_ptr<Stream>& stream, Work work) {
    if (auto& capture = stream->capture) {
        if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        capture->work.push_back(std::move(work));
        capture->branches[stream.get()].issued++;
        return CUDA_SUCCESS;
    }
    if (stream == null_stream())
        for (auto& other : streams)
            if (other->blocking && other->capture)
                return invalidate(*other->capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    wait_as_null_stream_rules(stream);
    stream->queue.push_back(std::move(work));
    if (!lazy_) run(*stream);
    return CUDA_SUCCESS;
}

CUresult record(Event& event, const std::shared_ptr<Stream>& stream) {
    event.told = false;
    if (auto& capture = stream->capture) {
        if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        event.captured = true;
        event.capture = capture;
        event.captured_stream = stream.get();
        event.captured_issued = capture->branches[stream.get()].issued;
        return CUDA_SUCCESS;
    }
    event.captured = false;
    wait_as_null_stream_rules(stream);
    event.moment = mark(stream);
    if (!lazy_) run(*stream);
    return CUDA_SUCCESS;
}

CUresult wait(const std::shared_ptr<Stream>& stream, const Event& event) {
    if (!event.captured) {
        if (stream->capture) return invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        if (!event.moment || event.moment->reached) return CUDA_SUCCESS;
        return issue(stream, {"wait", [moment = event.moment] { run_until(*moment); }});
    }
    auto capture = event.capture.lock();
    // An event of a capture that has ended orders nothing any more.
    if (!capture || !event.captured_stream) return CUDA_ERROR_INVALID_VALUE;
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream == null_stream()) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    if (stream->capture && stream->capture != capture) {
        invalidate(*stream->capture, CUDA_SUCCESS);
        return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    stream->capture = capture;
    // A wait is work too: the origin has to join it.
    auto& waiting = capture->branches[stream.get()];
    waiting.issued++;
    auto& awaited = capture->branches[event.captured_stream];
    awaited.joined = std::max(awaited.joined, event.captured_issued);
    return CUDA_SUCCESS;
}

CUresult begin_capture(const std::shared_ptr<Stream>& stream, CaptureMode mode) {
    static u64 count = 0;
    if (stream == null_stream()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    Capture capture{++count, mode, std::this_thread::get_id(), stream.get(), false, {}, {}};
    stream->capture = captures.emplace_back(std::make_shared<Capture>(std::move(capture)));
    stream->capture->branches[stream.get()];
    return CUDA_SUCCESS;
}

CUresult end_capture(const std::shared_ptr<Stream>& stream, std::shared_ptr<const std::vector<Work>>& work) {
    auto capture = stream->capture;
    if (!capture) return CUDA_ERROR_INVALID_VALUE;
    if (capture->origin != stream.get()) return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    if (capture->mode != CaptureMode::Relaxed && capture->thread != std::this_thread::get_id())
        return invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    bool unjoined = false;
    for (auto& [branch, counts] : capture->branches)
        if (branch != capture->origin && counts.joined < counts.issued) unjoined = true;
    for (auto& other : streams)
        if (other->capture == capture) other->capture = nullptr;
    std::erase(captures, capture);
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (unjoined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    work = std::make_shared<const std::vector<Work>>(std::move(capture->work));
    return CUDA_SUCCESS;
}

CUresult refuse_while_capturing() {
    CUresult status = CUDA_SUCCESS;
    for (auto& capture : captures) {
        bool own = capture->thread == std::this_thread::get_id();
        if (capture->mode == CaptureMode::Relaxed || (capture->mode == CaptureMode::ThreadLocal && !own)) continue;
        status = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return status;
}

CUresult refuse_if_capturing(Stream& stream) {
    return stream.capture ? invalidate(*stream.capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) : CUDA_SUCCESS;
}

CUresult refuse_if_any_capturing() {
    CUresult status = CUDA_SUCCESS;
    for (auto& capture : captures) status = invalidate(*capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    return status;
}

}  // namespace twin
