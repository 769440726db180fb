#include "../core/apply.h"

#include <cstring>

#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using ApplyPtr = std::shared_ptr<Apply>;

// What lib/changes/apply.ts packs: this, then the path, then where it was.
struct PackedChange {
  uint8_t kind, flags;
  uint16_t unused;
  uint32_t path_size, from_size, unused_too;
  uint64_t link_group;
};
static_assert(sizeof(PackedChange) == 24);
enum Flag : uint8_t { kReplaces = 1, kFields = 2, kDirectory = 4, kFrom = 8, kLinked = 16 };

std::vector<ApplyChange> changes_from(const std::string& packed) {
  std::vector<ApplyChange> changes;
  for (size_t at = 0; packed.size() - at >= sizeof(PackedChange);) {
    PackedChange one;
    std::memcpy(&one, packed.data() + at, sizeof one);
    at += sizeof one;
    if (packed.size() - at < size_t{one.path_size} + one.from_size) break;
    ApplyChange& change = changes.emplace_back();
    change.kind = static_cast<ChangeKind>(one.kind);
    change.replaces = (one.flags & kReplaces) != 0;
    change.fields = (one.flags & kFields) != 0;
    change.directory = (one.flags & kDirectory) != 0;
    change.path = packed.substr(at, one.path_size);
    if ((one.flags & kFrom) != 0) change.from = packed.substr(at + one.path_size, one.from_size);
    if ((one.flags & kLinked) != 0) change.link_group = one.link_group;
    at += size_t{one.path_size} + one.from_size;
  }
  return changes;
}

const char* reason_name(ConflictReason reason) {
  switch (reason) {
    case ConflictReason::missing:
      return "missing";
    case ConflictReason::exists:
      return "exists";
    case ConflictReason::type:
      return "type";
    case ConflictReason::content:
      return "content";
    case ConflictReason::metadata:
      return "metadata";
    case ConflictReason::parent:
      return "parent";
    case ConflictReason::mount:
      break;
  }
  return "mount";
}

const char* phase_name(Apply::Phase phase) {
  return phase == Apply::Phase::checking  ? "checking"
         : phase == Apply::Phase::copying ? "copying"
                                          : "placing";
}

ApplyPtr apply_from(const Napi::Value& handle) {
  return handle.IsExternal() ? *handle.As<Napi::External<ApplyPtr>>().Data() : nullptr;
}

// A worker that is being terminated may hand over nothing.
SysError no_handle() { return {EBADF, "applyChanges", "closed", {}, {}}; }

Napi::Value conflict_to_js(Napi::Env env, const Conflict& conflict) {
  auto js = Napi::Object::New(env);
  js.Set("change", Napi::Number::New(env, static_cast<double>(conflict.change)));
  js.Set("reason", reason_name(conflict.reason));
  js.Set("path", bytes_to_js(env, conflict.path));
  js.Set("forcible", conflict.forcible);
  return js;
}

std::vector<ApplyDecision> decisions_from(const Napi::Value& bytes) {
  std::vector<ApplyDecision> decisions;
  for (const char decision : bytes_from(bytes)) decisions.push_back(static_cast<ApplyDecision>(decision));
  return decisions;
}

Napi::Value decisions_to_js(Napi::Env env, const std::vector<ApplyDecision>& decisions) {
  std::string bytes;
  for (const ApplyDecision decision : decisions) bytes += static_cast<char>(decision);
  return bytes_to_js(env, bytes);
}

Napi::Value outcome_to_js(Napi::Env env, const ApplyOutcome& outcome) {
  auto js = Napi::Object::New(env);
  js.Set("decisions", decisions_to_js(env, outcome.decisions));
  js.Set("bytes", Napi::BigInt::New(env, outcome.bytes));
  js.Set("methods", array_to_js(env, outcome.methods, [env](uint64_t count) {
           return Napi::Number::New(env, static_cast<double>(count));
         }));
  js.Set("dropped", array_to_js(env, outcome.dropped, [env](const auto& one) {
           auto pair = Napi::Array::New(env, 2);
           pair.Set(0u, Napi::Number::New(env, static_cast<double>(one.first)));
           pair.Set(1u, bytes_to_js(env, one.second));
           return pair;
         }));
  js.Set("left", array_to_js(env, outcome.left, [env](const auto& one) { return bytes_to_js(env, one); }));
  return js;
}

Napi::Value failure_to_js(Napi::Env env, const ApplyFailure& failure) {
  auto js = error_to_js(env, failure.error);
  js.Set("place", bytes_to_js(env, failure.path));
  js.Set("applied", array_to_js(env, failure.applied, [env](size_t change) {
           return Napi::Number::New(env, static_cast<double>(change));
         }));
  js.Set("left", bytes_to_js(env, failure.left));
  js.Set("onOverlay", failure.on_overlay);
  if (failure.edited) js.Set("edited", bytes_to_js(env, *failure.edited));
  return js;
}

}  // namespace

Napi::Value open_apply_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [layers = layers_of_walk(info[0]), target = directory_from(info[1])]() mutable -> Result<ApplyPtr> {
        if (!layers) return no_walk();
        return ApplyPtr(TRY(Apply::open(*std::move(layers), target)));
      },
      [](Napi::Env env, ApplyPtr apply) -> Napi::Value {
        auto js = Napi::Object::New(env);
        js.Set("left",
               array_to_js(env, apply->left(), [env](const auto& one) { return bytes_to_js(env, one); }));
        js.Set("apply", owned_to_js(env, std::move(apply)));
        return js;
      });
}

Napi::Value apply_check_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [apply = apply_from(info[0]), packed = bytes_from(info[1]),
       cancel = cancel_from(info[2])]() mutable -> Result<std::vector<Conflict>> {
        if (apply == nullptr) return no_handle();
        auto changes = changes_from(packed);
        packed = {};
        return apply->check(std::move(changes), cancel);
      },
      [](Napi::Env env, const std::vector<Conflict>& conflicts) -> Napi::Value {
        return array_to_js(env, conflicts, [env](const Conflict& one) { return conflict_to_js(env, one); });
      });
}

Napi::Value apply_decide_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [apply = apply_from(info[0]),
       decisions = decisions_from(info[1])]() mutable -> Result<std::vector<ApplyDecision>> {
        if (apply == nullptr) return no_handle();
        return apply->decide(std::move(decisions));
      },
      [](Napi::Env env, const std::vector<ApplyDecision>& decisions) -> Napi::Value {
        return decisions_to_js(env, decisions);
      });
}

Napi::Value apply_run_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(),
      [apply = apply_from(info[0]), decisions = decisions_from(info[1]),
       cancel = cancel_from(info[2])]() mutable -> std::variant<ApplyOutcome, ApplyFailure> {
        if (apply == nullptr) return ApplyFailure{no_handle(), {}, {}, {}, {}, false};
        return apply->run(std::move(decisions), cancel);
      },
      [](Napi::Env env, const std::variant<ApplyOutcome, ApplyFailure>& done) -> Settled {
        if (const auto* failure = std::get_if<ApplyFailure>(&done))
          return {false, failure_to_js(env, *failure)};
        return {true, outcome_to_js(env, std::get<ApplyOutcome>(done))};
      });
}

Napi::Value apply_progress_verb(const Napi::CallbackInfo& info) {
  const ApplyPtr apply = apply_from(info[0]);
  if (apply == nullptr) return info.Env().Undefined();
  auto js = Napi::Object::New(info.Env());
  js.Set("phase", phase_name(apply->phase));
  js.Set("entries", Napi::Number::New(info.Env(), static_cast<double>(apply->entries_done.load())));
  js.Set("bytes", Napi::BigInt::New(info.Env(), apply->bytes_done.load()));
  return js;
}

Napi::Value close_apply_verb(const Napi::CallbackInfo& info) {
  if (info[0].IsExternal()) info[0].As<Napi::External<ApplyPtr>>().Data()->reset();
  return info.Env().Undefined();
}

}  // namespace overlayfs
