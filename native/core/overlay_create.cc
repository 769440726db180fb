#include "overlay_create.h"

#include <algorithm>
#include <string_view>

#include "mount_tree.h"
#include "overlay_strings.h"
#include "sys.h"

namespace overlayfs {
namespace {

// mount(2) copies one page of data and forces its last byte to NUL: what is longer is cut there, in silence.
constexpr size_t kMountDataMax = 4095;

// The caller's own path shows best in mount tables; a descriptor's name is short and cannot be mistaken.
std::string layer_name(const OpenLayer& layer) {
  const bool fits = escape_upperdir(layer.path, false).size() <= abi::FSCONFIG_STRING_MAX;
  return fits && !layer.path.empty() ? layer.path : fd_name(layer.fd.get());
}

Result<void> set_options(const FsContext& context, const OverlaySpec& spec) {
  TRY(context.set_string("source", spec.source));
  if (spec.readonly) TRY(context.set_flag("ro"));
  for (const OverlayOption& option : spec.options) {
    TRY(option.value ? context.set_string(option.key, *option.value) : context.set_flag(option.key));
  }
  return {};
}

Result<void> with_path(Result<void> result, const OpenLayer& layer) {
  if (!result) result.error().path = layer.path;
  return result;
}

Result<void> set_layers_by_fd(const FsContext& context, const OverlaySpec& spec) {
  const auto set = [&](const char* key, const OpenLayer& layer) -> Result<void> {
    auto result = context.set_fd(key, layer.fd.get());
    if (!result && result.error().err == EBADF) {  // Linux 6.13 takes no O_PATH descriptors
      const Fd readable = TRY(reopen_readable(layer.fd.get(), layer.path));
      result = context.set_fd(key, readable.get());
    }
    return with_path(std::move(result), layer);
  };
  for (const OpenLayer& layer : spec.lower) TRY(set("lowerdir+", layer));
  for (const OpenLayer& layer : spec.data_only_lower) TRY(set("datadir+", layer));
  if (spec.upper) TRY(set("upperdir", *spec.upper));
  if (spec.work) TRY(set("workdir", *spec.work));
  return {};
}

Result<void> set_upper_and_work_by_name(const FsContext& context, const OverlaySpec& spec, Rung rung) {
  // An escape would stay in mount tables, where nothing tells it from a name that has two backslashes.
  const auto set = [&](const char* key, const OpenLayer& layer) {
    // The wrapper before 6.5 takes no comma.
    const bool plain =
        layer.path.find_first_of(rung == Rung::joined_names ? "\\," : "\\") == std::string::npos;
    return with_path(context.set_string(key, plain ? layer_name(layer) : fd_name(layer.fd.get())), layer);
  };
  if (spec.upper) TRY(set("upperdir", *spec.upper));
  if (spec.work) TRY(set("workdir", *spec.work));
  return {};
}

Result<void> set_layers_by_name(const FsContext& context, const OverlaySpec& spec) {
  const auto set = [&](const char* key, const OpenLayer& layer) {
    return with_path(context.set_string(key, layer_name(layer)), layer);
  };
  for (const OpenLayer& layer : spec.lower) TRY(set("lowerdir+", layer));
  for (const OpenLayer& layer : spec.data_only_lower) TRY(set("datadir+", layer));
  return set_upper_and_work_by_name(context, spec, Rung::layer_names);
}

template <class Name>
std::string joined_lowerdir(const OverlaySpec& spec, Name name) {
  std::string joined;
  for (const OpenLayer& layer : spec.lower) joined += (joined.empty() ? "" : ":") + name(layer);
  for (const OpenLayer& layer : spec.data_only_lower) joined += "::" + name(layer);
  return joined;
}

Result<void> set_joined_layers(const FsContext& context, const OverlaySpec& spec) {
  const std::string joined =
      joined_lowerdir(spec, [](const OpenLayer& layer) { return fd_name(layer.fd.get()); });
  if (joined.size() > abi::FSCONFIG_STRING_MAX)
    return SysError{E2BIG, "fsconfig", "lowerdir=" + joined, {}, {}};
  TRY(context.set_string("lowerdir", joined));
  return set_upper_and_work_by_name(context, spec, Rung::joined_names);
}

// Options of every superblock: fsconfig(2) takes them as options, mount(2) only as flags.
unsigned long superblock_flag(const OverlayOption& option) {
  static constexpr std::string_view kWords[] = {"sync", "dirsync", "mand", "lazytime"};
  if (option.value) return 0;
  return std::ranges::find(kWords, option.key) == std::end(kWords) ? 0 : mount_flag(option.key);
}

// The options of one mount(2) call, layers named by `name`.
template <class Name>
Result<std::string> mount_data(const OverlaySpec& spec, Name name) {
  std::string data = "lowerdir=" + joined_lowerdir(spec, [&](const OpenLayer& layer) {
                       return escape_lowerdir(name(layer));
                     });
  if (spec.upper) data += ",upperdir=" + escape_upperdir(name(*spec.upper), true);
  if (spec.work) data += ",workdir=" + escape_upperdir(name(*spec.work), true);
  for (const OverlayOption& option : spec.options) {
    if (superblock_flag(option) != 0) continue;
    data += "," + option.key;
    if (!option.value) continue;
    if (option.value->find(',') != std::string::npos) {
      return SysError{
          EINVAL, "mount", option.key + "=" + *option.value + ": mount(2) cannot carry a comma", {}, {}};
    }
    data += "=" + *option.value;
  }
  if (data.size() > kMountDataMax)
    return SysError{E2BIG, "mount", std::to_string(data.size()) + " bytes of options", {}, {}};
  return data;
}

unsigned long mount_flags(const OverlaySpec& spec) {
  static constexpr std::pair<uint64_t, unsigned long> kFlags[] = {
      {abi::MOUNT_ATTR_NOSUID, abi::MS_NOSUID},           {abi::MOUNT_ATTR_NODEV, abi::MS_NODEV},
      {abi::MOUNT_ATTR_NOEXEC, abi::MS_NOEXEC},           {abi::MOUNT_ATTR_NOATIME, abi::MS_NOATIME},
      {abi::MOUNT_ATTR_STRICTATIME, abi::MS_STRICTATIME}, {abi::MOUNT_ATTR_NODIRATIME, abi::MS_NODIRATIME},
      {abi::MOUNT_ATTR_NOSYMFOLLOW, abi::MS_NOSYMFOLLOW},
  };
  unsigned long flags = spec.readonly ? abi::MS_RDONLY : 0;
  for (const auto& [attribute, flag] : kFlags) flags |= (spec.mount_attributes & attribute) != 0 ? flag : 0;
  for (const OverlayOption& option : spec.options) flags |= superblock_flag(option);
  return flags;
}

}  // namespace

const char* rung_name(Rung rung) {
  switch (rung) {
    case Rung::layer_fds:
      return "layer-fds";
    case Rung::layer_names:
      return "layer-names";
    case Rung::joined_names:
      return "joined-names";
    case Rung::mount:
      return "mount";
    case Rung::mount_fd_names:
      return "mount-fd-names";
  }
  return "";
}

Result<FsContext> configure(const OverlaySpec& spec, Rung rung) {
  FsContext context = TRY(FsContext::open("overlay"));
  TRY(set_options(context, spec));
  if (rung == Rung::layer_fds) {
    TRY(set_layers_by_fd(context, spec));
  } else if (rung == Rung::layer_names) {
    TRY(set_layers_by_name(context, spec));
  } else {
    TRY(set_joined_layers(context, spec));
  }
  return context;
}

Result<Fd> create_detached(const OverlaySpec& spec, Rung rung) {
  const FsContext context = TRY(configure(spec, rung));
  TRY(context.create());
  return context.mount(spec.mount_attributes);
}

Result<void> create_at(const OverlaySpec& spec, Rung rung, const std::string& target) {
  const bool by_number = rung == Rung::mount_fd_names;
  const std::string data = TRY(mount_data(spec, [&](const OpenLayer& layer) {
    if (by_number) return std::to_string(layer.fd.get());
    return layer.path.empty() ? fd_name(layer.fd.get()) : layer.path;
  }));
  return mount_overlay_by_string(spec.source, target, mount_flags(spec), data, by_number);
}

bool is_rung_missing(Rung rung, const SysError& error) {
  switch (rung) {
    case Rung::layer_fds:
      // Without layer descriptors: "Bad value for 'lowerdir+'" (6.7) or "Unknown parameter" (6.5); the
      // wrapper before 6.5 says EOPNOTSUPP. A layer that is refused for what it is gives another message.
      return error.err == ENOSYS || error.err == EOPNOTSUPP ||
             (error.err == EPERM && error.call == std::string_view("fsopen")) ||
             error.kernel.find("Bad value for 'lowerdir+'") != std::string::npos ||
             error.kernel.find("Unknown parameter 'lowerdir+'") != std::string::npos;
    case Rung::layer_names:
      return error.err == ENOSYS || error.kernel.find("Unknown parameter 'lowerdir+'") != std::string::npos;
    case Rung::joined_names:
      return error.err == ENOSYS;
    case Rung::mount:
      return error.err == E2BIG;
    case Rung::mount_fd_names:
      return false;
  }
  return false;
}

}  // namespace overlayfs
