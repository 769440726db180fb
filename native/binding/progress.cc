#include "../core/progress.h"

#include "values.h"
#include "verbs.h"

namespace overlayfs {

Progress progress_from(const Napi::Value& token) {
  return token.IsExternal() ? *token.As<Napi::External<Progress>>().Data() : nullptr;
}

Napi::Value new_progress_verb(const Napi::CallbackInfo& info) {
  return owned_to_js(info.Env(), std::make_shared<ProgressCounts>());
}

Napi::Value read_progress_verb(const Napi::CallbackInfo& info) {
  const Progress progress = progress_from(info[0]);
  auto js = Napi::Object::New(info.Env());
  js.Set("entries", static_cast<double>(progress->entries));
  js.Set("bytes", Napi::BigInt::New(info.Env(), uint64_t{progress->bytes}));
  return js;
}

}  // namespace overlayfs
