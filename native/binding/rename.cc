#include "../core/overlay_rename.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using Outcome = std::variant<Renamed, RenameFailure>;

Outcome rename_live(LiveMount& live, const RenamePlan& plan) {
  auto root = open_root(live);
  if (root) return rename_in_overlay(root->get(), plan);
  // The overlay itself: whatever `from` and `to` are.
  RenameFailure failure;
  failure.how = RenameFailed::overlay;
  failure.error = std::move(root.error());
  return failure;
}

Napi::Object rename_failure_to_js(Napi::Env env, const RenameFailure& failure) {
  auto js = error_to_js(env, failure.error);
  js.Set("how", rename_failed_name(failure.how));
  js.Set("remaining", Napi::BigInt::New(env, failure.remains.count));
  js.Set("remains", array_to_js(env, failure.remains.paths,
                                [env](const std::string& path) { return bytes_to_js(env, path); }));
  if (failure.staging_error) {
    js.Set("staging", bytes_to_js(env, failure.staging));
    js.Set("stagingError", error_to_js(env, *failure.staging_error));
  }
  return js;
}

}  // namespace

Napi::Value rename_verb(const Napi::CallbackInfo& info) {
  const auto js = info[1].As<Napi::Object>();
  auto gate = ExitGate::of(info.Env()).shared_from_this();
  auto plan = std::make_shared<RenamePlan>(RenamePlan{.from = bytes_from(get(js, "from")),
                                                      .to = bytes_from(get(js, "to")),
                                                      .noreplace = truth(get(js, "noreplace")),
                                                      .exchange = truth(get(js, "exchange")),
                                                      .cancel = cancel_from(get(js, "cancel")),
                                                      .exiting = [gate] { return gate->closed(); },
                                                      .progress = progress_from(get(js, "progress"))});
  return run(
      info.Env(), [live = mount_from(info[0]), plan] { return rename_live(*live, *plan); },
      [](Napi::Env env, Outcome& outcome) -> Settled {
        if (const auto* failure = std::get_if<RenameFailure>(&outcome))
          return {false, rename_failure_to_js(env, *failure)};
        const auto& renamed = std::get<Renamed>(outcome);
        auto js = Napi::Object::New(env);
        js.Set("copied", renamed.copied);
        js.Set("entries", static_cast<double>(renamed.entries));
        js.Set("bytes", Napi::BigInt::New(env, renamed.bytes));
        return {true, js};
      });
}

}  // namespace overlayfs
