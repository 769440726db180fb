#include "../core/in_use.h"

#include "../core/overlays_elsewhere.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

Result<InUseAnswer> directory_in_use(const DirectoryRef& ref, bool detached_layers) {
  OpenLayer directory{TRY(open_directory(ref)), ref.path, {}};
  directory.identity = TRY(identify(directory.fd.get(), ref.shown()));
  return probe_in_use(directory, detached_layers);
}

}  // namespace

Napi::Value directory_in_use_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [ref = directory_from(info[0]), detached = truth(info[1])] { return directory_in_use(ref, detached); },
      [](Napi::Env env, const InUseAnswer& answer) -> Napi::Value {
        auto js = Napi::Object::New(env);
        const bool unknown = answer.answer == InUse::unknown;
        js.Set("answer", unknown ? "unknown" : answer.answer == InUse::no ? "no" : "yes");
        js.Set("reason", answer.reason);
        return js;
      });
}

Napi::Value overlays_elsewhere_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [] { return overlays_elsewhere(); },
      [](Napi::Env env, const OverlaysElsewhere& found) -> Napi::Value {
        auto js = Napi::Object::New(env);
        js.Set("overlays", array_to_js(env, found.overlays, [env](const OverlayElsewhere& one) {
                 auto overlay = Napi::Object::New(env);
                 overlay.Set("pid", one.pid);
                 overlay.Set("point", bytes_to_js(env, one.mount.point));
                 overlay.Set("source", bytes_to_js(env, one.mount.source));
                 overlay.Set("options", bytes_to_js(env, one.mount.options));
                 return overlay;
               }));
        js.Set("unseen", Napi::Number::New(env, static_cast<double>(found.unseen)));
        return js;
      });
}

Napi::Value live_layers_verb(const Napi::CallbackInfo& info) {
  return array_to_js(info.Env(), live_layers(), [&](int fd) { return Napi::Number::New(info.Env(), fd); });
}

}  // namespace overlayfs
