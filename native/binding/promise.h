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
  PromiseJob(napi_deferred deferred, Work work, ToJs to_js)
      : deferred_(deferred), work_(std::move(work)), to_js_(std::move(to_js)) {}

  void work() override { outcome_.emplace(work_()); }
  void settle(Napi::Env env) override {
    const Settled settled = to_js_(env, *outcome_);
    // Fails only where nobody can be told any more: the environment is ending.
    (settled.resolved ? napi_resolve_deferred : napi_reject_deferred)(env, deferred_, settled.value);
  }

 private:
  napi_deferred deferred_;
  Work work_;
  ToJs to_js_;
  std::optional<std::invoke_result_t<Work>> outcome_;
};

template <class Work, class ToJs>
Napi::Value run(Napi::Env env, Work work, ToJs to_js) {
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  // A worker that is being terminated makes no promises, and its arguments may not have been read whole.
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return {};
  auto job = std::make_unique<PromiseJob<Work, ToJs>>(deferred, std::move(work), std::move(to_js));
  if (const int error = ExitGate::of(env).start(env, std::move(job)); error != 0) {
    const char* why = error == ECANCELED ? "the process is exiting" : "no thread can be started";
    napi_reject_deferred(env, deferred, error_to_js(env, {error, "pthread_create", why, {}, {}}));
  }
  return {env, promise};
}

// For work that gives a Result: its error rejects, its value goes through `to_js`.
template <class Work, class ToJs>
Napi::Value run_result(Napi::Env env, Work work, ToJs to_js) {
  return run(env, std::move(work), [to_js = std::move(to_js)](Napi::Env env, auto& result) -> Settled {
    if (!result) return {false, error_to_js(env, result.error())};
    return {true, to_js(env, *std::move(result))};
  });
}

// For work that opens layers and then looks into them: `open` gives them, and what it fails with is marked as
// being about a layer itself.
template <class Open, class Work, class ToJs>
Napi::Value run_on_layers(Napi::Env env, Open open, Work work, ToJs to_js) {
  using Value = std::invoke_result_t<Work, decltype(*std::declval<std::invoke_result_t<Open>&>())>;
  struct Outcome {
    bool opened;
    Value value;
  };
  return run(
      env,
      [open = std::move(open), work = std::move(work)]() -> Outcome {
        auto layers = open();
        if (!layers) return {false, std::move(layers).error()};
        return {true, work(*layers)};
      },
      [to_js = std::move(to_js)](Napi::Env env, Outcome& outcome) -> Settled {
        if (outcome.value) return {true, to_js(env, *std::move(outcome.value))};
        auto error = error_to_js(env, outcome.value.error());
        if (!outcome.opened) error.Set("layer", true);
        return {false, error};
      });
}

}  // namespace overlayfs
