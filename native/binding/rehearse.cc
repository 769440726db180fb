#include "../core/rehearse.h"

#include "../core/directory_probe.h"
#include "../core/mount_info.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {

Napi::Value rehearse_verb(const Napi::CallbackInfo& info) {
  auto plan = std::make_shared<MountPlan>(plan_from(info[0].As<Napi::Object>()));
  return run_result(
      info.Env(), [plan] { return rehearse_overlay(*plan); },
      [](Napi::Env env, const Rehearsal& rehearsal) -> Napi::Value {
        static constexpr const char* kInUse[] = {"no", "upper", "work", "unknown"};
        auto js = Napi::Object::New(env);
        js.Set("complete", rehearsal.complete);
        if (rehearsal.failure) js.Set("failure", failure_to_js(env, *rehearsal.failure));
        js.Set("inUse", kInUse[static_cast<int>(rehearsal.in_use.answer)]);
        js.Set("inUseReason", rehearsal.in_use.reason);
        js.Set("workUncleanable", rehearsal.work_uncleanable);
        return js;
      });
}

Napi::Value try_options_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [options = options_from(info[0])] { return try_options(options); },
      [](Napi::Env env, const std::vector<int>& errors) -> Napi::Value {
        return array_to_js(env, errors, [env](int error) { return Napi::Number::New(env, -error); });
      });
}

Napi::Value probe_directory_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [ref = directory_from(info[0]), writable = truth(info[1])] { return probe_directory(ref, writable); },
      [](Napi::Env env, const std::vector<ProbeAnswer>& answers) -> Napi::Value {
        auto js = Napi::Object::New(env);
        for (const ProbeAnswer& answer : answers) js.Set(answer.what, -answer.error);
        return js;
      });
}

Napi::Value try_user_namespace_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(), [] { return try_user_namespace(); },
      [](Napi::Env env, int error) -> Settled {
        return {true, Napi::Number::New(env, -error)};
      });
}

Napi::Value mounts_below_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [directories = each(info[0], bytes_from)] { return mounts_below(directories); },
      [](Napi::Env env, const std::vector<std::string>& points) -> Napi::Value {
        return array_to_js(env, points, [env](const std::string& point) { return bytes_to_js(env, point); });
      });
}

}  // namespace overlayfs
