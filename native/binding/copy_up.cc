#include "../core/copy_up.h"

#include "copy_up_batch.h"
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
    case CopyUpRefusal::work_not_separate:
      return "work-not-separate";
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
  order.paths = paths_from(get(js, "paths"));
  order.recursive = truth(get(js, "recursive"));
  if (const Napi::Value threads = get(js, "concurrency"); threads.IsNumber())
    order.threads = threads.As<Napi::Number>().Uint32Value();
  order.rungs = each(get(js, "rungs"), rung_from);
  order.detached_layers = truth(get(js, "detachedLayers"));
  order.can_tell_in_use = truth(get(js, "canTellInUse"));
  order.progress = progress_from(get(js, "progress"));
  return order;
}

CopyUpRow row_of(CopyUpResult& result) {
  CopyUpRow row{.path = std::move(result.path), .reason = std::move(result.reason)};
  if (!result.data) return row;
  row.method = static_cast<CopyUpMethod>(result.data->method);
  row.bytes = result.data->bytes;
  row.cloned = result.data->cloned();
  return row;
}

Napi::Object batch_to_js(Napi::Env env, CopyUpBatch& batch) {
  std::vector<CopyUpRow> rows;
  rows.reserve(batch.results.size());
  for (CopyUpResult& result : batch.results) rows.push_back(row_of(result));
  auto js = copy_up_batch_to_js(env, rows);
  js.Set("more", batch.more);
  if (batch.error) js.Set("error", refused_to_js(env, *batch.error, batch.refusal));
  return js;
}

Session session_from(const Napi::Value& value) { return *value.As<Napi::External<Session>>().Data(); }

}  // namespace

Napi::Value start_copy_up_verb(const Napi::CallbackInfo& info) {
  const Cancel cancel = cancel_from(info[2]);
  ExitGate::of(info.Env()).cancel_at_exit(cancel);
  struct Started {
    Result<Session> session = SysError{};
    CopyUpRefusal refusal = CopyUpRefusal::none;
    std::string in_use_unknown;
    CopyUpBatch batch;
  };
  return run(
      info.Env(),
      [stack = stack_from(info[0]), order = order_from(info[1]), cancel] {
        Started started;
        started.session = CopyUp::open(stack, order, &started.refusal);
        if (!started.session) return started;
        Session& session = *started.session;
        started.in_use_unknown = session->in_use_unknown();
        started.batch = session->next(cancel);
        if (!started.batch.more)
          session.reset();  // takes the staging directory away, and lets go of the locks
        return started;
      },
      [](Napi::Env env, Started& started) -> Settled {
        if (!started.session) return {false, refused_to_js(env, started.session.error(), started.refusal)};
        auto js = batch_to_js(env, started.batch);
        js.Set("inUseUnknown", started.in_use_unknown);
        if (*started.session) js.Set("session", owned_to_js(env, *std::move(started.session)));
        return {true, js};
      });
}

Napi::Value next_copy_up_verb(const Napi::CallbackInfo& info) {
  const Cancel cancel = cancel_from(info[1]);
  ExitGate::of(info.Env()).cancel_at_exit(cancel);
  return run(
      info.Env(), [session = session_from(info[0]), cancel] { return session->next(cancel); },
      [](Napi::Env env, CopyUpBatch& batch) -> Settled {
        return {true, batch_to_js(env, batch)};
      });
}

Napi::Value close_copy_up_verb(const Napi::CallbackInfo& info) {
  Session& held = *info[0].As<Napi::External<Session>>().Data();
  return run_result(
      info.Env(),
      [session = std::exchange(held, nullptr)]() mutable -> Result<bool> {
        session.reset();
        return true;
      },
      undefined_to_js);
}

}  // namespace overlayfs
