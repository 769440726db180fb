// Places in layers, and why the kernel refuses one, as JavaScript gets them.
#pragma once

#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "../core/merged_lookup.h"

namespace overlayfs {

// What the layers are called in this mount namespace, by the kernel's numbers; empty: nothing.
struct LayerNames {
  std::vector<std::string> roots;
  std::string work;
};
LayerNames roots_of(const MergedLayers& layers);
Napi::Object roots_to_js(Napi::Env env, const LayerNames& names);

// The layers that a walk over changes holds open, shared with it; none: it has been closed.
std::optional<MergedLayers> layers_of_walk(const Napi::Value& changes);  // changes.cc
// EBADF, where it has been.
SysError no_walk();

// { layer, path }: by the kernel's number, 0 the upper; -1 is the work directory.
Napi::Object place_to_js(Napi::Env env, size_t layer, const std::string& path);
Napi::Object refused_to_js(Napi::Env env, const Refused& refused);

}  // namespace overlayfs
