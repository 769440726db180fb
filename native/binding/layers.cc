#include "../core/directory.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

struct OpenedDirectories {
  std::vector<Fd> fds;
};

Result<OpenedDirectories> open_directories(const std::vector<DirectoryRef>& refs) {
  OpenedDirectories opened;
  for (const DirectoryRef& ref : refs) opened.fds.push_back(TRY(open_directory(ref)));
  return opened;
}

}  // namespace

Napi::Value open_directories_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [refs = directories_from(info[0])] { return open_directories(refs); },
      [](Napi::Env env, OpenedDirectories opened) -> Napi::Value {
        auto js = Napi::Object::New(env);
        js.Set("fds", array_to_js(env, opened.fds,
                                  [env](const Fd& fd) { return Napi::Number::New(env, fd.get()); }));
        js.Set("opened", owned_to_js(env, std::move(opened)));
        return js;
      });
}

Napi::Value close_directories_verb(const Napi::CallbackInfo& info) {
  info[0].As<Napi::External<OpenedDirectories>>().Data()->fds.clear();
  return info.Env().Undefined();
}

}  // namespace overlayfs
