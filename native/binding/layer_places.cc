#include "layer_places.h"

#include "../core/directory.h"
#include "values.h"

namespace overlayfs {
namespace {

const char* word(Refusal refusal) {
  switch (refusal) {
    case Refusal::redirect_not_followed:
      return "redirect-not-followed";
    case Refusal::metacopy_off:
      return "metacopy-off";
    case Refusal::redirect_malformed:
      return "redirect-malformed";
    case Refusal::redirect_bad_name:
      return "redirect-bad-name";
    case Refusal::metacopy_malformed:
      return "metacopy-malformed";
    case Refusal::data_missing:
      return "data-missing";
    case Refusal::layer_inside_layer:
      return "layer-inside-layer";
    case Refusal::index_bad:
      return "index-bad";
    case Refusal::origin_mismatch:
      return "origin-mismatch";
  }
  return "";
}

}  // namespace

LayerNames roots_of(const MergedLayers& layers) {
  LayerNames names;
  for (size_t layer = 0; layer < layers.layers(); ++layer) {
    const auto& root = layers.root_of(layer);
    names.roots.push_back(root ? name_of_directory(root->get()) : std::string());
  }
  if (!layers.stack().work) return names;
  if (auto work = open_directory(*layers.stack().work)) names.work = name_of_directory(work->get());
  return names;
}

Napi::Object roots_to_js(Napi::Env env, const LayerNames& names) {
  auto js = Napi::Object::New(env);
  js.Set("roots",
         array_to_js(env, names.roots, [env](const std::string& root) { return bytes_to_js(env, root); }));
  js.Set("work", bytes_to_js(env, names.work));
  return js;
}

Napi::Object place_to_js(Napi::Env env, size_t layer, const std::string& path) {
  auto js = Napi::Object::New(env);
  js.Set("layer", layer == kIndexLayer ? -1 : static_cast<double>(layer));
  js.Set("path", bytes_to_js(env, path));
  return js;
}

Napi::Object refused_to_js(Napi::Env env, const Refused& refused) {
  auto js = place_to_js(env, refused.layer, refused.path);
  js.Set("why", word(refused.why));
  return js;
}

}  // namespace overlayfs
