#include "values.h"

#include "../core/kernel_abi.h"

namespace overlayfs {
namespace {

struct Word {
  const char* name;
  uint64_t bit;
};
constexpr Word kMountFlags[] = {
    {"readonly", abi::MOUNT_ATTR_RDONLY},       {"nosuid", abi::MOUNT_ATTR_NOSUID},
    {"nodev", abi::MOUNT_ATTR_NODEV},           {"noexec", abi::MOUNT_ATTR_NOEXEC},
    {"noatime", abi::MOUNT_ATTR_NOATIME},       {"strictatime", abi::MOUNT_ATTR_STRICTATIME},
    {"nodiratime", abi::MOUNT_ATTR_NODIRATIME}, {"idmapped", abi::MOUNT_ATTR_IDMAP},
};
constexpr Word kPropagation[] = {
    {"shared", abi::MS_SHARED},
    {"slave", abi::MS_SLAVE},
    {"unbindable", abi::MS_UNBINDABLE},
    {"private", abi::MS_PRIVATE},
};

constexpr Rung kRungs[] = {Rung::layer_fds, Rung::layer_names, Rung::joined_names, Rung::mount,
                           Rung::mount_fd_names};

std::optional<DirectoryRef> optional_directory(const Napi::Value& value) {
  if (value.IsUndefined()) return std::nullopt;
  return directory_from(value);
}

std::string text(const Napi::Value& value) { return value.As<Napi::String>().Utf8Value(); }
bool truth(const Napi::Value& value) { return value.ToBoolean().Value(); }

template <class Read>
auto each(const Napi::Value& value, Read read) {
  const auto array = value.As<Napi::Array>();
  std::vector<decltype(read(Napi::Value()))> items;
  items.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) items.push_back(read(array.Get(i)));
  return items;
}

OverlayOption option_from(const Napi::Value& value) {
  const auto pair = value.As<Napi::Array>();
  const Napi::Value content = pair.Get(1u);
  return {text(pair.Get(0u)), content.IsNull() ? std::nullopt : std::optional(bytes_from(content))};
}

Rung rung_from(const Napi::Value& value) {
  const std::string name = text(value);
  for (const Rung rung : kRungs) {
    if (name == rung_name(rung)) return rung;
  }
  return Rung::layer_fds;
}

}  // namespace

std::string bytes_from(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(array.Data()), array.ByteLength()};
}

DirectoryRef directory_from(const Napi::Value& value) {
  if (value.IsNumber()) return {{}, value.As<Napi::Number>().Int32Value()};
  return {bytes_from(value), -1};
}

std::vector<DirectoryRef> directories_from(const Napi::Value& value) { return each(value, directory_from); }

uint64_t propagation_from(const Napi::Value& word) {
  const std::string name = text(word);
  for (const auto& [known, bit] : kPropagation) {
    if (name == known) return bit;
  }
  return abi::MS_PRIVATE;
}

std::vector<OverlayOption> options_from(const Napi::Value& value) { return each(value, option_from); }

MountPlan plan_from(const Napi::Object& js) {
  MountPlan plan;
  plan.lower = directories_from(js.Get("lower"));
  plan.data_only_lower = directories_from(js.Get("dataOnlyLower"));
  plan.upper = optional_directory(js.Get("upper"));
  plan.work = optional_directory(js.Get("work"));
  plan.scratch = truth(js.Get("scratch"));
  if (const Napi::Value size = js.Get("scratchSize"); size.IsBigInt()) {
    bool lossless;
    plan.scratch_size = size.As<Napi::BigInt>().Uint64Value(&lossless);
  }
  plan.empty_lower = truth(js.Get("emptyLower"));
  plan.options = options_from(js.Get("options"));
  plan.source = bytes_from(js.Get("source"));
  plan.readonly = truth(js.Get("readonly"));
  for (const std::string& flag : each(js.Get("mountFlags"), text)) {
    for (const auto& [name, bit] : kMountFlags) plan.mount_attributes |= flag == name ? bit : 0;
  }
  plan.propagation = propagation_from(js.Get("propagation"));
  if (const Napi::Value target = js.Get("target"); !target.IsUndefined()) plan.target = bytes_from(target);
  plan.make_target = truth(js.Get("mkdirTarget"));
  plan.rungs = each(js.Get("rungs"), rung_from);
  plan.detached_layers = truth(js.Get("detachedLayers"));
  plan.check_in_use = truth(js.Get("checkInUse"));
  plan.remove_volatile_marker = truth(js.Get("removeVolatileMarker"));
  plan.require_xattrs = truth(js.Get("requireXattrs"));
  plan.xattr_prefix = text(js.Get("xattrPrefix"));
  plan.keep_upper_for_sync = truth(js.Get("keepUpperForSync"));
  return plan;
}

LiveMountPtr mount_from(const Napi::Value& handle) {
  return *handle.As<Napi::External<LiveMountPtr>>().Data();
}

Napi::Value mount_to_js(Napi::Env env, LiveMountPtr mount) {
  return Napi::External<LiveMountPtr>::New(env, new LiveMountPtr(std::move(mount)),
                                           [](Napi::Env, LiveMountPtr* held) { delete held; });
}

Napi::Value bytes_to_js(Napi::Env env, const std::string& bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Napi::Object error_to_js(Napi::Env env, const SysError& error) {
  auto js = Napi::Object::New(env);
  js.Set("errno", -error.err);
  js.Set("syscall", error.call);
  js.Set("arguments", bytes_to_js(env, error.arguments));
  if (!error.path.empty()) js.Set("path", bytes_to_js(env, error.path));
  if (!error.kernel.empty()) js.Set("kernel", bytes_to_js(env, error.kernel));
  return js;
}

Napi::Array attempts_to_js(Napi::Env env, const std::vector<Attempt>& attempts) {
  auto js = Napi::Array::New(env, attempts.size());
  for (uint32_t i = 0; i < attempts.size(); ++i) {
    auto attempt = error_to_js(env, attempts[i].error);
    attempt.Set("rung", rung_name(attempts[i].rung));
    js.Set(i, attempt);
  }
  return js;
}

Napi::Object info_to_js(Napi::Env env, const MountInfo& info) {
  auto js = Napi::Object::New(env);
  js.Set("mountId", Napi::BigInt::New(env, info.id));
  js.Set("parentId", Napi::BigInt::New(env, info.parent_id));
  js.Set("mountInfoId", Napi::BigInt::New(env, info.old_id));
  js.Set("uniqueIds", info.unique_ids);
  js.Set("device", Napi::BigInt::New(env, info.device));
  js.Set("root", bytes_to_js(env, info.root));
  js.Set("point", bytes_to_js(env, info.point));
  js.Set("type", info.type);
  js.Set("source", bytes_to_js(env, info.source));
  js.Set("options", bytes_to_js(env, info.options));
  js.Set("superblockReadonly", info.superblock_readonly);
  auto flags = Napi::Array::New(env);
  for (const auto& [name, bit] : kMountFlags) {
    if ((info.attributes & bit) != 0) flags.Set(flags.Length(), name);
  }
  js.Set("mountFlags", flags);
  auto propagation = Napi::Array::New(env);
  for (const auto& [name, bit] : kPropagation) {
    if ((info.propagation & bit) != 0) propagation.Set(propagation.Length(), name);
  }
  js.Set("propagation", propagation);
  return js;
}

Napi::Object failure_to_js(Napi::Env env, const MountFailure& failure) {
  auto js = error_to_js(env, failure.error);
  js.Set("step", step_name(failure.step));
  if (!failure.role.empty()) {
    js.Set("role", failure.role);
    js.Set("index", static_cast<double>(failure.index));
  }
  if (!failure.other.empty()) js.Set("other", bytes_to_js(env, failure.other));
  js.Set("attempts", attempts_to_js(env, failure.attempts));
  return js;
}

}  // namespace overlayfs
