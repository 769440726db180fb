#include "promise.h"
#include "verbs.h"

namespace overlayfs {

static Napi::Value unmounted_to_js(Napi::Env env, Unmounted unmounted) {
  return Napi::Boolean::New(env, unmounted == Unmounted::now);
}

static Napi::Value outcome_to_js(Napi::Env env, const ExitOutcome& outcome) {
  auto js = Napi::Object::New(env);
  js.Set("target", bytes_to_js(env, outcome.target));
  js.Set("errno", -outcome.error);
  return js;
}

Napi::Value unmount_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [live = mount_from(info[0]), lazy = truth(info[1]), sync_volatile = truth(info[2])] {
        const std::lock_guard lock(live->changing);
        return end_mount(*live, lazy, sync_volatile);
      },
      unmounted_to_js);
}

Napi::Value unmount_target_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [target = bytes_from(info[0]), lazy = truth(info[1])]() -> Result<bool> {
        TRY(unmount_topmost_overlay(target, lazy));
        return true;
      },
      undefined_to_js);
}

Napi::Value unmount_by_id_verb(const Napi::CallbackInfo& info) {
  DirectoryIdentity identity;
  bool lossless;
  identity.mount_id = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  identity.unique_mount_id = true;
  return run_result(
      info.Env(),
      [identity, target = bytes_from(info[1])] { return unmount_overlay(identity, target, false); },
      unmounted_to_js);
}

Napi::Value unmount_now_verb(const Napi::CallbackInfo& info) {
  const LiveMountPtr live = mount_from(info[0]);
  const std::lock_guard lock(live->changing);
  const auto outcome = end_mount_at_once(*live);
  return outcome ? outcome_to_js(info.Env(), *outcome) : info.Env().Undefined();
}

Napi::Value close_gate_verb(const Napi::CallbackInfo& info) {
  auto js = Napi::Array::New(info.Env());
  for (const ExitOutcome& outcome : ExitGate::of(info.Env()).close()) {
    js.Set(js.Length(), outcome_to_js(info.Env(), outcome));
  }
  return js;
}

}  // namespace overlayfs
