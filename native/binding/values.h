// Between JavaScript values and the core's structs. Arguments are checked in TypeScript; here they are only
// read.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../core/cancel.h"
#include "../core/layer_stack.h"
#include "../core/mount_info.h"
#include "../core/overlay_mount.h"
#include "../core/progress.h"
#include "../core/xattr.h"
#include "exit_gate.h"

namespace overlayfs {

// A worker that is being terminated refuses from one moment to the next to look into an object. These then
// give something harmless, with which run() starts nothing.
Napi::Value get(const Napi::Object& object, const char* key);
Napi::Value get(const Napi::Array& array, uint32_t index);
bool truth(const Napi::Value& value);
std::string text(const Napi::Value& value);
template <class Read>
auto each(const Napi::Value& value, Read read) {
  std::vector<decltype(read(value))> items;
  if (!value.IsArray()) return items;
  const auto array = value.As<Napi::Array>();
  items.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) items.push_back(read(get(array, i)));
  return items;
}

std::string bytes_from(const Napi::Value& value);  // Uint8Array
// Paths in one buffer, each ended by a NUL: reading 100,000 strings one by one would take longer than the
// work.
std::vector<std::string> paths_from(const Napi::Value& value);
DirectoryRef directory_from(const Napi::Value& value);  // Uint8Array | number
std::vector<DirectoryRef> directories_from(const Napi::Value& value);
std::vector<OverlayOption> options_from(const Napi::Value& value);  // [key, Uint8Array | null][]
Rung rung_from(const Napi::Value& name);
LayerStack stack_from(const Napi::Value& stack);
Cancel cancel_from(const Napi::Value& token);      // none: null, which is never cancelled
Progress progress_from(const Napi::Value& token);  // none: null
MountPlan plan_from(const Napi::Object& plan);
uint64_t propagation_from(const Napi::Value& word);  // 'private' | 'slave' | 'shared' | 'unbindable'
LiveMountPtr mount_from(const Napi::Value& handle);

Napi::Value mount_to_js(Napi::Env env, LiveMountPtr mount);  // an opaque handle
// Something that lives until JavaScript lets go of it, or the environment ends.
template <class T>
Napi::Value owned_to_js(Napi::Env env, T held) {
  auto owned = std::make_unique<T>(std::move(held));
  auto js = Napi::External<T>::New(env, owned.get(), [](Napi::Env, T* dropped) { delete dropped; });
  if (!js.IsEmpty()) std::ignore = owned.release();
  return js;
}
// What was opened stays ours, until `closeOpened`: should the environment end before, it is closed with it.
Napi::Object opened_to_js(Napi::Env env, Fd fd);  // files.cc
Napi::Value bytes_to_js(Napi::Env env, const std::string& bytes);
Napi::Value xattrs_to_js(Napi::Env env, const std::vector<Xattr>& attributes);  // [name, value][]
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
