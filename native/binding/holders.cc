#include "../core/holders.h"

#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

Napi::Array pids_to_js(Napi::Env env, const std::vector<int>& pids) {
  return array_to_js(env, pids, [env](int pid) { return Napi::Number::New(env, pid); });
}

Napi::Value holder_to_js(Napi::Env env, const Holder& holder) {
  auto js = Napi::Object::New(env);
  js.Set("kind", hold_kind_name(holder.kind));
  if (holder.pid != 0) {
    js.Set("pid", holder.pid);
    js.Set("uid", holder.uid);
    js.Set("comm", bytes_to_js(env, holder.comm));
  }
  js.Set("path", bytes_to_js(env, holder.path));
  if (holder.fd >= 0) {
    js.Set("fd", holder.fd);
    js.Set("readable", holder.readable);
    js.Set("writable", holder.writable);
  }
  if (holder.mount_namespace != 0) js.Set("mountNamespace", Napi::BigInt::New(env, holder.mount_namespace));
  if (holder.kind == HoldKind::mount_namespace) js.Set("pids", pids_to_js(env, holder.pids));
  return js;
}

Napi::Value report_to_js(Napi::Env env, const HolderReport& report) {
  const auto kind = [env](HoldKind one) { return Napi::String::New(env, hold_kind_name(one)); };
  const auto unseen_to_js = [&](const Unseen& unseen) {
    auto js = Napi::Object::New(env);
    js.Set("what", array_to_js(env, unseen.kinds, kind));
    js.Set("errno", -unseen.error);
    js.Set("pids", pids_to_js(env, unseen.pids));
    return js;
  };
  auto js = Napi::Object::New(env);
  js.Set("holders",
         array_to_js(env, report.holders, [env](const Holder& one) { return holder_to_js(env, one); }));
  js.Set("unseen", array_to_js(env, report.unseen, unseen_to_js));
  js.Set("hiddenProcesses", report.hidden_processes);
  js.Set("outerProcesses", report.outer_processes);
  return js;
}

}  // namespace

Napi::Value holders_verb(const Napi::CallbackInfo& info) {
  std::optional<uint64_t> id;
  DirectoryRef ref;
  if (info[0].IsBigInt()) {
    bool lossless;
    id = info[0].As<Napi::BigInt>().Uint64Value(&lossless);
  } else {
    ref = directory_from(info[0]);
  }
  return run_result(
      info.Env(),
      [id, ref]() -> Result<HolderReport> {
        const HeldMount held = TRY(id ? held_mount_by_id(*id) : held_mount(ref));
        return find_holders(held);
      },
      report_to_js);
}

}  // namespace overlayfs
