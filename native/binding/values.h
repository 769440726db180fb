// Between JavaScript values and the core's structs. Arguments are checked in TypeScript; here they are only
// read.
#pragma once

#include <napi.h>

#include <optional>
#include <string>
#include <vector>

#include "../core/mount_info.h"
#include "../core/overlay_mount.h"
#include "exit_gate.h"

namespace overlayfs {

std::string bytes_from(const Napi::Value& value);       // Uint8Array
DirectoryRef directory_from(const Napi::Value& value);  // Uint8Array | number
std::vector<DirectoryRef> directories_from(const Napi::Value& value);
std::vector<OverlayOption> options_from(const Napi::Value& value);  // [key, Uint8Array | null][]
MountPlan plan_from(const Napi::Object& plan);
uint64_t propagation_from(const Napi::Value& word);  // 'private' | 'slave' | 'shared' | 'unbindable'
LiveMountPtr mount_from(const Napi::Value& handle);

Napi::Value mount_to_js(Napi::Env env, LiveMountPtr mount);  // an opaque handle
Napi::Value bytes_to_js(Napi::Env env, const std::string& bytes);
Napi::Object error_to_js(Napi::Env env, const SysError& error);
Napi::Object info_to_js(Napi::Env env, const MountInfo& info);
Napi::Object failure_to_js(Napi::Env env, const MountFailure& failure);
Napi::Array attempts_to_js(Napi::Env env, const std::vector<Attempt>& attempts);

template <class Items, class ToJs>
Napi::Array array_to_js(Napi::Env env, const Items& items, ToJs to_js) {
  auto js = Napi::Array::New(env, items.size());
  for (uint32_t i = 0; i < items.size(); ++i) js.Set(i, to_js(items[i]));
  return js;
}

// For verbs whose value is that they were carried out.
inline Napi::Value undefined_to_js(Napi::Env env, bool) { return env.Undefined(); }

}  // namespace overlayfs
