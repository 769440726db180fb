#include <fcntl.h>

#include "../core/overlay_unmount.h"
#include "../core/sys.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

// A descriptor of the live mount's root that is the caller's to close.
Result<Fd> open_root(LiveMount& live) {
  const std::lock_guard lock(live.changing);
  if (!live.mounted) return SysError{ENOENT, "openat", "unmounted", live.target, {}};
  const int detached = live.root.get();
  const Fd attached = live.root ? Fd() : TRY(open_mount_root(live.identity, live.target));
  return reopen_readable(detached >= 0 ? detached : attached.get(), live.target);
}

// openat2(2) under RESOLVE_IN_ROOT: neither a symbolic link nor `..` leads out of the overlay.
Result<Fd> open_in_root(LiveMount& live, const std::string& path, uint64_t flags, uint64_t mode) {
  const Fd root = TRY(open_root(live));
  Fd opened(sys::openat2(root.get(), path.empty() ? "." : path.c_str(),
                         {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = abi::RESOLVE_IN_ROOT}));
  if (!opened) return failed("openat2", "RESOLVE_IN_ROOT", path);
  return opened;
}

Napi::Value fd_to_js(Napi::Env env, Fd& fd) { return Napi::Number::New(env, fd.release()); }

}  // namespace

Napi::Value open_root_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [live = mount_from(info[0])] { return open_root(*live); },
      [](Napi::Env env, Fd fd) -> Napi::Value { return fd_to_js(env, fd); });
}

Napi::Value open_in_root_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [live = mount_from(info[0]), path = bytes_from(info[1]),
       flags = info[2].As<Napi::Number>().Uint32Value(),
       mode = info[3].As<Napi::Number>().Uint32Value()] { return open_in_root(*live, path, flags, mode); },
      [](Napi::Env env, Fd fd) -> Napi::Value { return fd_to_js(env, fd); });
}

}  // namespace overlayfs
