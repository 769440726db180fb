#include <fcntl.h>

#include "../core/overlay_unmount.h"
#include "../core/sys.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

// openat2(2) under RESOLVE_IN_ROOT: neither a symbolic link nor `..` leads out of the overlay.
Result<Fd> open_in_root(LiveMount& live, const std::string& path, uint64_t flags, uint64_t mode) {
  const Fd root = TRY(open_root(live));
  Fd opened(sys::openat2(root.get(), path.empty() ? "." : path.c_str(),
                         {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = abi::RESOLVE_IN_ROOT}));
  if (!opened) return failed("openat2", "RESOLVE_IN_ROOT", path);
  return opened;
}

}  // namespace

Napi::Object opened_to_js(Napi::Env env, Fd fd) {
  auto js = Napi::Object::New(env);
  js.Set("fd", fd.get());
  js.Set("opened", owned_to_js(env, std::move(fd)));
  return js;
}

Napi::Value open_in_root_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [live = mount_from(info[0]), path = bytes_from(info[1]),
       flags = info[2].As<Napi::Number>().Uint32Value(),
       mode = info[3].As<Napi::Number>().Uint32Value()] { return open_in_root(*live, path, flags, mode); },
      [](Napi::Env env, Fd fd) -> Napi::Value { return opened_to_js(env, std::move(fd)); });
}

Napi::Value close_opened_verb(const Napi::CallbackInfo& info) {
  info[0].As<Napi::External<Fd>>().Data()->reset();
  return info.Env().Undefined();
}

}  // namespace overlayfs
