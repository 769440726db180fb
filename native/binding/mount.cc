#include "../core/mount_tree.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using MountOutcome = std::variant<Mounted, MountFailure>;

// From here on the mount is answered for: should the environment end before its promise settles, the gate
// finds it.
LiveMountPtr keep(ExitGate& gate, Mounted& mounted, const MountPlan& plan, bool keep_on_exit) {
  auto live = std::make_unique<LiveMount>();
  live->identity = mounted.identity;
  live->target = plan.target;
  live->rung = mounted.rung;
  live->detached_layers = plan.detached_layers;
  live->can_tell_in_use = plan.can_tell_in_use;
  live->made_target = mounted.made_target;
  live->keep_on_exit = keep_on_exit;
  live->root = std::move(mounted.root);
  live->layers = std::move(mounted.layers);
  live->upper_for_sync = std::move(mounted.upper_for_sync);
  return gate.add(std::move(live));
}

// The gate's patience may have run out while this was under way: then nobody else takes it away.
void end_if_closed(ExitGate& gate, LiveMount& live) {
  if (!gate.closed() || live.keep_on_exit) return;
  const std::lock_guard lock(live.changing);
  end_mount_at_once(live);
}

Napi::Array fds_to_js(Napi::Env env, const std::vector<Fd>& fds) {
  auto js = Napi::Array::New(env, fds.size());
  for (uint32_t i = 0; i < fds.size(); ++i) js.Set(i, fds[i].get());
  return js;
}

Napi::Object layers_to_js(Napi::Env env, const MountedLayers& layers) {
  auto js = Napi::Object::New(env);
  js.Set("lower", fds_to_js(env, layers.lower));
  js.Set("dataOnlyLower", fds_to_js(env, layers.data_only_lower));
  if (layers.upper) js.Set("upper", layers.upper.get());
  if (layers.work) js.Set("work", layers.work.get());
  return js;
}

struct Kept {
  Mounted report;
  LiveMountPtr live;
};

Napi::Object mounted_to_js(Napi::Env env, const Kept& kept) {
  const Mounted& mounted = kept.report;
  auto js = Napi::Object::New(env);
  js.Set("handle", mount_to_js(env, kept.live));
  if (kept.live->root) js.Set("fd", kept.live->root.get());
  js.Set("mountId", Napi::BigInt::New(env, mounted.identity.mount_id));
  js.Set("rung", rung_name(mounted.rung));
  js.Set("attempts", attempts_to_js(env, mounted.attempts));
  if (mounted.in_use.answer == InUse::unknown) js.Set("inUseUnknown", mounted.in_use.reason);
  js.Set("containmentVerified", mounted.containment_verified);
  js.Set("upperWithoutXattrs", mounted.upper_without_xattrs);
  js.Set("madeTarget", mounted.made_target.has_value());
  js.Set("withoutFileHandles", mounted.without_file_handles);
  js.Set("propagated", mounted.propagated);
  return js;
}

}  // namespace

Napi::Value mount_overlay_verb(const Napi::CallbackInfo& info) {
  const auto js = info[0].As<Napi::Object>();
  auto plan = std::make_shared<MountPlan>(plan_from(js));
  const bool keep_on_exit = truth(get(js, "keepOnExit"));
  auto gate = ExitGate::of(info.Env()).shared_from_this();
  return run(
      info.Env(),
      [plan, gate, keep_on_exit]() -> std::variant<Kept, MountFailure> {
        MountOutcome outcome = mount_overlay(*plan, [&] { return gate->closed(); });
        if (auto* failure = std::get_if<MountFailure>(&outcome)) return std::move(*failure);
        auto& mounted = std::get<Mounted>(outcome);
        LiveMountPtr live = keep(*gate, mounted, *plan, keep_on_exit);
        end_if_closed(*gate, *live);
        return Kept{std::move(mounted), std::move(live)};
      },
      [](Napi::Env env, std::variant<Kept, MountFailure>& outcome) -> Settled {
        if (const auto* failure = std::get_if<MountFailure>(&outcome))
          return {false, failure_to_js(env, *failure)};
        return {true, mounted_to_js(env, std::get<Kept>(outcome))};
      });
}

Napi::Value layers_verb(const Napi::CallbackInfo& info) {
  return layers_to_js(info.Env(), mount_from(info[0])->layers);
}

Napi::Value attach_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [live = mount_from(info[0]), target = bytes_from(info[1]), make = truth(info[2]),
       propagation = propagation_from(info[3])]() -> Result<Attached> {
        const std::lock_guard lock(live->changing);
        if (!live->mounted) return SysError{ENOENT, "move_mount", "unmounted", target, {}};
        if (!live->root) return SysError{EALREADY, "move_mount", "attached", target, {}};
        Attached attached = TRY(attach_overlay(live->root.get(), target, make, propagation));
        live->target = target;
        live->made_target = attached.made_target;
        live->root.reset();
        if (live->gate->closed()) end_mount_at_once(*live);
        return attached;
      },
      [](Napi::Env env, const Attached& attached) -> Napi::Value {
        auto js = Napi::Object::New(env);
        js.Set("mountId", Napi::BigInt::New(env, attached.identity.mount_id));
        js.Set("madeTarget", attached.made_target.has_value());
        js.Set("propagated", attached.propagated);
        return js;
      });
}

Napi::Value remount_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [live = mount_from(info[0]), readonly = truth(info[1])]() -> Result<bool> {
        const std::lock_guard lock(live->changing);
        if (live->root) {
          TRY(remount_superblock(live->root.get(), readonly));
        } else {
          const Fd root = TRY(open_mount_root(live->identity, live->target));
          TRY(remount_superblock(root.get(), readonly));
        }
        return true;
      },
      undefined_to_js);
}

Napi::Value remount_target_verb(const Napi::CallbackInfo& info) {
  unsigned long flags = 0;
  for (const std::string& word : each(info[1], text)) flags |= mount_flag(word);
  return run_result(
      info.Env(),
      [target = bytes_from(info[0]), flags]() -> Result<bool> {
        TRY(remount_path(target, flags));
        return true;
      },
      undefined_to_js);
}

}  // namespace overlayfs
