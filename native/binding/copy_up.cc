#include "../core/copy_up.h"

#include <cstring>

#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using Session = std::shared_ptr<CopyUp>;

const char* refusal_name(CopyUpRefusal refusal) {
  switch (refusal) {
    case CopyUpRefusal::none:
      break;
    case CopyUpRefusal::open_layer:
      return "open-layer";
    case CopyUpRefusal::work_locked:
      return "work-locked";
    case CopyUpRefusal::upper_in_use:
      return "upper-in-use";
    case CopyUpRefusal::work_in_use:
      return "work-in-use";
    case CopyUpRefusal::work_on_other_mount:
      return "work-on-other-mount";
    case CopyUpRefusal::has_index:
      return "has-index";
    case CopyUpRefusal::work_needed:
      return "work-needed";
    case CopyUpRefusal::unwritable:
      return "unwritable";
  }
  return "";
}

Napi::Object refused_to_js(Napi::Env env, const SysError& error, CopyUpRefusal refusal) {
  auto js = error_to_js(env, error);
  if (refusal != CopyUpRefusal::none) js.Set("refusal", refusal_name(refusal));
  return js;
}

CopyUpOrder order_from(const Napi::Value& value) {
  CopyUpOrder order;
  if (!value.IsObject()) return order;
  const auto js = value.As<Napi::Object>();
  order.paths = each(get(js, "paths"), bytes_from);
  order.recursive = truth(get(js, "recursive"));
  if (const Napi::Value threads = get(js, "concurrency"); threads.IsNumber())
    order.threads = threads.As<Napi::Number>().Uint32Value();
  order.rungs = each(get(js, "rungs"), rung_from);
  order.detached_layers = truth(get(js, "detachedLayers"));
  order.can_tell_in_use = truth(get(js, "canTellInUse"));
  return order;
}

// The order of `methods` in lib/layer/copy-up-stream.ts.
uint8_t method_code(const CopyUpResult& result) {
  constexpr uint8_t skipped = 5;
  return result.data ? static_cast<uint8_t>(result.data->method) : skipped;
}

Napi::Value batch_to_js(Napi::Env env, const CopyUpBatch& batch) {
  const std::vector<CopyUpResult>& results = batch.results;
  auto methods = Napi::Uint8Array::New(env, results.size()),
       cloned = Napi::Uint8Array::New(env, results.size());
  auto bytes = Napi::BigUint64Array::New(env, results.size());
  auto reasons = Napi::Array::New(env);
  std::string paths;
  for (size_t i = 0; i < results.size(); ++i) {
    paths.append(results[i].path).push_back('\0');
    methods[i] = method_code(results[i]);
    cloned[i] = results[i].data && results[i].data->cloned() ? 1 : 0;
    bytes[i] = results[i].data ? results[i].data->bytes : 0;
    if (results[i].reason.empty()) continue;
    auto reason = Napi::Array::New(env, 2);
    reason.Set(0u, static_cast<double>(i));
    reason.Set(1u, bytes_to_js(env, results[i].reason));
    reasons.Set(reasons.Length(), reason);
  }
  auto js = Napi::Object::New(env);
  js.Set("paths", bytes_to_js(env, paths));
  js.Set("methods", methods);
  js.Set("bytes", bytes);
  js.Set("cloned", cloned);
  js.Set("reasons", reasons);
  js.Set("more", batch.more);
  if (batch.error) js.Set("error", refused_to_js(env, *batch.error, batch.refusal));
  return js;
}

Session session_from(const Napi::Value& value) { return *value.As<Napi::External<Session>>().Data(); }

}  // namespace

Napi::Value open_copy_up_verb(const Napi::CallbackInfo& info) {
  struct Opened {
    Result<Session> session = SysError{};
    CopyUpRefusal refusal = CopyUpRefusal::none;
  };
  return run(
      info.Env(),
      [stack = stack_from(info[0]), order = order_from(info[1])] {
        Opened opened;
        opened.session = CopyUp::open(stack, order, &opened.refusal);
        return opened;
      },
      [](Napi::Env env, Opened& opened) -> Settled {
        if (!opened.session) return {false, refused_to_js(env, opened.session.error(), opened.refusal)};
        auto js = Napi::Object::New(env);
        js.Set("inUseUnknown", (*opened.session)->in_use_unknown());
        js.Set("session", owned_to_js(env, *std::move(opened.session)));
        return {true, js};
      });
}

Napi::Value next_copy_up_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(),
      [session = session_from(info[0]), cancel = cancel_from(info[1])] { return session->next(cancel); },
      [](Napi::Env env, const CopyUpBatch& batch) -> Settled {
        return {true, batch_to_js(env, batch)};
      });
}

Napi::Value copy_up_progress_verb(const Napi::CallbackInfo& info) {
  const Session session = session_from(info[0]);
  auto js = Napi::Object::New(info.Env());
  js.Set("entries", static_cast<double>(session->entries()));
  js.Set("bytes", Napi::BigInt::New(info.Env(), session->bytes()));
  return js;
}

Napi::Value close_copy_up_verb(const Napi::CallbackInfo& info) {
  Session& held = *info[0].As<Napi::External<Session>>().Data();
  return run_result(
      info.Env(),
      [session = std::exchange(held, nullptr)]() mutable -> Result<bool> {
        session.reset();  // takes the staging directory away, and lets go of the locks
        return true;
      },
      undefined_to_js);
}

}  // namespace overlayfs
