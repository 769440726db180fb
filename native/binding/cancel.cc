#include "../core/cancel.h"

#include "values.h"
#include "verbs.h"

namespace overlayfs {

Cancel cancel_from(const Napi::Value& token) {
  return token.IsExternal() ? *token.As<Napi::External<Cancel>>().Data() : nullptr;
}

Napi::Value new_cancel_verb(const Napi::CallbackInfo& info) {
  return owned_to_js(info.Env(), std::make_shared<std::atomic<bool>>(false));
}

Napi::Value cancel_verb(const Napi::CallbackInfo& info) {
  if (const Cancel cancel = cancel_from(info[0])) cancel->store(true, std::memory_order_relaxed);
  return info.Env().Undefined();
}

}  // namespace overlayfs
