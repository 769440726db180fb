#include "values.h"

#include "../core/kernel_abi.h"

namespace overlayfs {
namespace {

struct Word {
  const char* name;
  uint64_t bit;
};
constexpr Word kMountFlags[] = {
    {"readonly", abi::MOUNT_ATTR_RDONLY},
    {"nosuid", abi::MOUNT_ATTR_NOSUID},
    {"nodev", abi::MOUNT_ATTR_NODEV},
    {"noexec", abi::MOUNT_ATTR_NOEXEC},
    {"noatime", abi::MOUNT_ATTR_NOATIME},
    {"strictatime", abi::MOUNT_ATTR_STRICTATIME},
    {"nodiratime", abi::MOUNT_ATTR_NODIRATIME},
    {"idmapped", abi::MOUNT_ATTR_IDMAP},
    {"nosymfollow", abi::MOUNT_ATTR_NOSYMFOLLOW},
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

OverlayOption option_from(const Napi::Value& value) {
  if (!value.IsArray()) return {};
  const auto pair = value.As<Napi::Array>();
  const Napi::Value content = get(pair, 1);
  return {text(get(pair, 0)), content.IsNull() ? std::nullopt : std::optional(bytes_from(content))};
}

}  // namespace

Napi::Value get(const Napi::Object& object, const char* key) {
  napi_value value = nullptr;
  if (napi_get_named_property(object.Env(), object, key, &value) != napi_ok) return object.Env().Undefined();
  return {object.Env(), value};
}

Napi::Value get(const Napi::Array& array, uint32_t index) {
  napi_value value = nullptr;
  if (napi_get_element(array.Env(), array, index, &value) != napi_ok) return array.Env().Undefined();
  return {array.Env(), value};
}

bool truth(const Napi::Value& value) { return value.IsBoolean() && value.As<Napi::Boolean>().Value(); }

std::string text(const Napi::Value& value) {
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
}

std::string bytes_from(const Napi::Value& value) {
  if (!value.IsTypedArray()) return {};
  const auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(array.Data()), array.ByteLength()};
}

std::vector<std::string> paths_from(const Napi::Value& value) {
  const std::string packed = bytes_from(value);
  std::vector<std::string> paths;
  for (size_t at = 0, end; (end = packed.find('\0', at)) != std::string::npos; at = end + 1)
    paths.push_back(packed.substr(at, end - at));
  return paths;
}

DirectoryRef directory_from(const Napi::Value& value) {
  if (value.IsNumber()) return {{}, value.As<Napi::Number>().Int32Value()};
  return {bytes_from(value), -1};
}

Rung rung_from(const Napi::Value& value) {
  const std::string name = text(value);
  for (const Rung rung : kRungs) {
    if (name == rung_name(rung)) return rung;
  }
  return Rung::layer_fds;
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

LayerStack stack_from(const Napi::Value& value) {
  LayerStack stack;
  if (!value.IsObject()) return stack;
  const auto js = value.As<Napi::Object>();
  stack.lower = directories_from(get(js, "lower"));
  stack.data_only = directories_from(get(js, "dataOnlyLower"));
  stack.upper = optional_directory(get(js, "upper"));
  stack.work = optional_directory(get(js, "work"));
  stack.index = truth(get(js, "index"));
  stack.metacopy = truth(get(js, "metacopy"));
  stack.userxattr = truth(get(js, "userxattr"));
  const std::string redirect = text(get(js, "redirectDir"));
  stack.redirect_dir = redirect == "on"         ? RedirectDir::on
                       : redirect == "nofollow" ? RedirectDir::nofollow
                                                : RedirectDir::follow;
  return stack;
}

MountPlan plan_from(const Napi::Object& js) {
  MountPlan plan;
  plan.policy = truth(get(js, "policy"));
  plan.lower = directories_from(get(js, "lower"));
  plan.data_only_lower = directories_from(get(js, "dataOnlyLower"));
  plan.upper = optional_directory(get(js, "upper"));
  plan.work = optional_directory(get(js, "work"));
  plan.scratch = truth(get(js, "scratch"));
  if (const Napi::Value size = get(js, "scratchSize"); size.IsBigInt()) {
    bool lossless;
    plan.scratch_size = size.As<Napi::BigInt>().Uint64Value(&lossless);
  }
  plan.empty_lower = truth(get(js, "emptyLower"));
  plan.options = options_from(get(js, "options"));
  plan.source = bytes_from(get(js, "source"));
  plan.readonly = truth(get(js, "readonly"));
  for (const std::string& flag : each(get(js, "mountFlags"), text)) {
    for (const auto& [name, bit] : kMountFlags) plan.mount_attributes |= flag == name ? bit : 0;
  }
  if (const Napi::Value word = get(js, "propagation"); !word.IsUndefined())
    plan.propagation = propagation_from(word);
  if (const Napi::Value target = get(js, "target"); !target.IsUndefined()) plan.target = bytes_from(target);
  plan.make_target = truth(get(js, "mkdirTarget"));
  if (const Napi::Value mode = get(js, "targetMode"); mode.IsNumber())
    plan.target_mode = mode.As<Napi::Number>().Uint32Value();
  plan.rungs = each(get(js, "rungs"), rung_from);
  plan.detached_layers = truth(get(js, "detachedLayers"));
  plan.check_in_use = truth(get(js, "checkInUse"));
  plan.remove_volatile_marker = truth(get(js, "removeVolatileMarker"));
  plan.require_xattrs = truth(get(js, "requireXattrs"));
  plan.xattr_prefix = text(get(js, "xattrPrefix"));
  plan.needs_file_handles = truth(get(js, "needsFileHandles"));
  plan.can_tell_in_use = truth(get(js, "canTellInUse"));
  plan.keep_upper_for_sync = truth(get(js, "keepUpperForSync"));
  return plan;
}

LiveMountPtr mount_from(const Napi::Value& handle) {
  return *handle.As<Napi::External<LiveMountPtr>>().Data();
}

Napi::Value mount_to_js(Napi::Env env, LiveMountPtr mount) { return owned_to_js(env, std::move(mount)); }

Napi::Value bytes_to_js(Napi::Env env, const std::string& bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value xattrs_to_js(Napi::Env env, const std::vector<Xattr>& attributes) {
  return array_to_js(env, attributes, [env](const Xattr& attribute) {
    auto pair = Napi::Array::New(env, 2);
    pair.Set(0u, bytes_to_js(env, attribute.first));
    pair.Set(1u, bytes_to_js(env, attribute.second));
    return pair;
  });
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
