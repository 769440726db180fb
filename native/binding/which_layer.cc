#include "../core/which_layer.h"

#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

const char* word(LayerStep::Kind kind) {
  switch (kind) {
    case LayerStep::Kind::opaque:
      return "opaque";
    case LayerStep::Kind::redirect:
      return "redirect";
    case LayerStep::Kind::metacopy:
      return "metacopy";
    case LayerStep::Kind::index:
      return "index";
    case LayerStep::Kind::whiteout:
      return "whiteout";
    case LayerStep::Kind::xattr_whiteout:
      return "xattr-whiteout";
  }
  return "";
}

const char* word(HiddenPlace::Why why) {
  switch (why) {
    case HiddenPlace::Why::whiteout:
      return "whiteout";
    case HiddenPlace::Why::opaque:
      return "opaque";
    case HiddenPlace::Why::redirect:
      return "redirect";
    case HiddenPlace::Why::file:
      return "file";
    case HiddenPlace::Why::directory:
      return "directory";
  }
  return "";
}

const char* word(IgnoredXattr::Why why) {
  switch (why) {
    case IgnoredXattr::Why::other_namespace:
      return "other-namespace";
    case IgnoredXattr::Why::opaque_value:
      return "opaque-value";
    case IgnoredXattr::Why::index_off:
      return "index-off";
    case IgnoredXattr::Why::fuse_overlayfs:
      return "fuse-overlayfs";
  }
  return "";
}

Napi::Object place_to_js(Napi::Env env, const LayerPlace& place) {
  return overlayfs::place_to_js(env, place.layer, place.path);
}

struct Told {
  WhichLayer answer;
  LayerNames names;
};

Result<Told> tell(const MergedLayers& layers, const std::string& path) {
  return Told{TRY(which_layer(layers, path)), roots_of(layers)};
}

Napi::Value told_to_js(Napi::Env env, const Told& told) {
  const WhichLayer& answer = told.answer;
  const auto place = [env](const LayerPlace& one) { return place_to_js(env, one); };
  auto js = roots_to_js(env, told.names);
  js.Set("errno", -answer.err);
  js.Set("mode", answer.mode);
  js.Set("dataErrno", -answer.data_err);
  js.Set("merged", array_to_js(env, answer.merged, place));
  if (answer.serves) js.Set("serves", place(*answer.serves));
  if (answer.data) js.Set("data", place(*answer.data));
  if (answer.refused) js.Set("refused", refused_to_js(env, *answer.refused));
  js.Set("way", array_to_js(env, answer.way, [&](const LayerStep& step) {
           auto one = place(step.place);
           one.Set("kind", word(step.kind));
           one.Set("redirect", bytes_to_js(env, step.redirect));
           return one;
         }));
  js.Set("hidden", array_to_js(env, answer.hidden, [&](const HiddenPlace& hidden) {
           auto one = place(hidden.place);
           one.Set("why", word(hidden.why));
           one.Set("mode", hidden.mode);
           one.Set("by", place(hidden.by));
           return one;
         }));
  js.Set("ignored", array_to_js(env, answer.ignored, [&](const IgnoredXattr& ignored) {
           auto one = place(ignored.place);
           one.Set("why", word(ignored.why));
           one.Set("name", bytes_to_js(env, ignored.name));
           one.Set("value", bytes_to_js(env, ignored.value));
           return one;
         }));
  return js;
}

}  // namespace

Napi::Value which_layer_verb(const Napi::CallbackInfo& info) {
  return run_on_layers(
      info.Env(), [stack = stack_from(info[0])] { return MergedLayers::open(stack); },
      [path = bytes_from(info[1])](const MergedLayers& layers) { return tell(layers, path); }, told_to_js);
}

}  // namespace overlayfs
