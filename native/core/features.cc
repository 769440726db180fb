#include "features.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>

#include <array>

#include "directory.h"
#include "fs_context.h"
#include "scratch.h"
#include "sys.h"

namespace overlayfs {

bool has_capability(unsigned capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[capability / 32].effective >> (capability % 32) & 1) != 0;
}

bool in_initial_user_namespace() {
  struct stat st {};
  return sys::fstatat(AT_FDCWD, "/proc/self/ns/user", &st, 0) != 0 || st.st_ino == abi::PROC_USER_INIT_INO;
}

namespace {

void probe_unprivileged_calls(KernelFeatures* features) {
  abi::Statx stx{};
  if (sys::statx(AT_FDCWD, "/", 0, abi::statx_mask::MNT_ID_UNIQUE, &stx) != 0) {
    if (errno == EPERM) features->filtered.emplace_back("statx");
    stx.mask = 0;
  }
  alignas(8) std::array<char, 1024> buffer;
  const bool unique_ids = (stx.mask & abi::statx_mask::MNT_ID_UNIQUE) != 0;
  features->statmount =
      unique_ids && sys::statmount(stx.mnt_id, abi::STATMOUNT_MNT_BASIC, buffer.data(), buffer.size()) == 0;
  if (unique_ids && !features->statmount && errno == EPERM) features->filtered.emplace_back("statmount");
  const Fd opened(sys::openat2(AT_FDCWD, "/", {.flags = O_PATH | O_CLOEXEC, .mode = 0, .resolve = 0}));
  if (!opened && errno == EPERM) features->filtered.emplace_back("openat2");
}

void probe_option_keys(const FsContext& context, KernelFeatures* features) {
  static constexpr std::pair<const char*, const char*> kKeys[] = {
      {"redirect_dir", "follow"},  {"index", "off"},
      {"nfs_export", "off"},       {"xino", "off"},
      {"metacopy", "off"},         {"uuid", "auto"},
      {"verity", "off"},           {"fsync", "auto"},
      {"userxattr", nullptr},      {"volatile", nullptr},
      {"override_creds", nullptr}, {"default_permissions", nullptr},
  };
  for (const auto& [key, value] : kKeys) {
    if (value == nullptr ? context.set_flag(key) : context.set_string(key, value))
      features->options.emplace_back(key);
  }
}

bool takes_detached_layers() {
  auto scratch = ScratchTmpfs::create(std::nullopt, false);
  if (!scratch) return false;
  auto directory = scratch->make_directory("lower");
  auto context = FsContext::open("overlay");
  return directory && context && context->set_fd("lowerdir+", directory->get());
}

}  // namespace

KernelFeatures probe_kernel_features() {
  KernelFeatures features;
  features.sys_admin = has_capability(CAP_SYS_ADMIN);
  features.initial_user_namespace = in_initial_user_namespace();
  probe_unprivileged_calls(&features);

  auto context = FsContext::open("overlay");
  // With CAP_SYS_ADMIN, EPERM is a seccomp filter or a security module; a mount on no path never gets
  // further.
  if (features.sys_admin && !context && context.error().err == EPERM) {
    features.filtered.emplace_back("fsopen");
    if (sys::mount("overlay", "", "overlay", 0, nullptr) != 0 && errno == EPERM)
      features.filtered.emplace_back("mount");
  }
  if (!context) {
    features.fsopen_error = context.error().err;
    return features;
  }
  features.native_parser = checks_options_at_once(*context);
  if (!features.native_parser) return features;

  probe_option_keys(*context, &features);
  const Fd root(sys::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  const Fd readable_root(sys::openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY));
  if (context->set_fd("lowerdir+", root.get())) {
    features.layer_fds = LayerFds::path;
  } else if (context->set_fd("lowerdir+", readable_root.get())) {
    features.layer_fds = LayerFds::readable;
  }
  features.lowerdir_append = features.layer_fds != LayerFds::none || context->set_string("lowerdir+", "/");
  features.detached_layers = features.layer_fds == LayerFds::path && takes_detached_layers();
  return features;
}

Result<int> try_create(const std::vector<TrialOption>& options, bool data_only) {
  const ScratchTmpfs scratch = TRY(ScratchTmpfs::create(std::nullopt, true));
  const Fd upper_most = TRY(scratch.make_directory("a"));
  const Fd middle = TRY(scratch.make_directory("b"));
  const Fd last = TRY(scratch.make_directory("c"));
  const FsContext context = TRY(FsContext::open("overlay"));
  for (const TrialOption& option : options) {
    if (auto set = context.set_string(option.key, option.value); !set) return set.error().err;
  }
  TRY(context.set_string("lowerdir+", fd_name(upper_most.get())));
  TRY(context.set_string("lowerdir+", fd_name(middle.get())));
  if (auto set = context.set_string(data_only ? "datadir+" : "lowerdir+", fd_name(last.get())); !set)
    return set.error().err;
  if (auto created = context.create(); !created) return created.error().err;
  return 0;
}

}  // namespace overlayfs
