// One way to run a verb: `work` on our threads, `to_js` on the JavaScript thread, a promise between them.
#pragma once

#include <napi.h>

#include <utility>

#include "exit_gate.h"
#include "values.h"

namespace overlayfs {

// What a verb came to: a value to resolve with, or plain data to reject with. TypeScript makes the Error.
struct Settled {
  bool resolved;
  Napi::Value value;
};

template <class Work, class ToJs>
class PromiseJob final : public ExitGate::Job {
 public:
  PromiseJob(Napi::Env env, Work work, ToJs to_js)
      : deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)), to_js_(std::move(to_js)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }
  Napi::Promise refuse(Napi::Env env) const {
    deferred_.Reject(error_to_js(env, {ECANCELED, "exit", "the process is exiting", {}, {}}));
    return deferred_.Promise();
  }
  void work() override { outcome_.emplace(work_()); }
  void settle(Napi::Env env) override {
    const Settled settled = to_js_(env, *outcome_);
    if (settled.resolved) {
      deferred_.Resolve(settled.value);
    } else {
      deferred_.Reject(settled.value);
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Work work_;
  ToJs to_js_;
  std::optional<std::invoke_result_t<Work>> outcome_;
};

template <class Work, class ToJs>
Napi::Value run(Napi::Env env, Work work, ToJs to_js) {
  auto job = std::make_unique<PromiseJob<Work, ToJs>>(env, std::move(work), std::move(to_js));
  const Napi::Promise promise = job->promise();
  auto* raw = job.get();
  ExitGate& gate = ExitGate::of(env);
  if (gate.closed()) return raw->refuse(env);
  gate.start(env, std::move(job));
  return promise;
}

// For work that gives a Result: its error rejects, its value goes through `to_js`.
template <class Work, class ToJs>
Napi::Value run_result(Napi::Env env, Work work, ToJs to_js) {
  return run(env, std::move(work), [to_js = std::move(to_js)](Napi::Env env, auto& result) -> Settled {
    if (!result) return {false, error_to_js(env, result.error())};
    return {true, to_js(env, *std::move(result))};
  });
}

}  // namespace overlayfs
