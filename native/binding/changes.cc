#include <sys/resource.h>

#include "../core/change_walk.h"
#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using WalkPtr = std::shared_ptr<ChangeWalk>;

ChangeOptions options_from(const Napi::Object& js) {
  ChangeOptions options;
  const std::string compare = text(get(js, "compare"));
  options.compare = compare == "content" ? Compare::content
                    : compare == "none"  ? Compare::none
                                         : Compare::metadata;
  options.in_order = truth(get(js, "inOrder"));
  options.renames = truth(get(js, "renames"));
  options.expand = truth(get(js, "expand"));
  options.dir_times = truth(get(js, "dirTimes"));
  options.include = each(get(js, "include"), bytes_from);
  options.exclude = each(get(js, "exclude"), bytes_from);
  if (const Napi::Value threads = get(js, "threads"); threads.IsNumber())
    options.threads = threads.As<Napi::Number>().Uint32Value();
  return options;
}

WalkPtr walk_from(const Napi::Value& handle) { return *handle.As<Napi::External<WalkPtr>>().Data(); }

// As much memory as four times the layers' part of all descriptors is of 64 MiB, upon which V8 collects what
// was dropped: it knows of no other want, and walks that nobody has closed keep their layers open until then.
int64_t weight_of(const ChangeWalk& walk) {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == 0) return 0;
  constexpr int64_t kCollected = int64_t{64} << 20;
  return static_cast<int64_t>(walk.layers().layers()) *
         (4 * kCollected / static_cast<int64_t>(limit.rlim_cur));
}

Napi::Value walk_to_js(Napi::Env env, WalkPtr walk) {
  const int64_t weight = weight_of(*walk);
  auto owned = std::make_unique<WalkPtr>(std::move(walk));
  auto js = Napi::External<WalkPtr>::New(env, owned.get(), [weight](Napi::Env dropping, WalkPtr* dropped) {
    Napi::MemoryManagement::AdjustExternalMemory(dropping, -weight);
    delete dropped;
  });
  if (js.IsEmpty()) return js;
  std::ignore = owned.release();
  Napi::MemoryManagement::AdjustExternalMemory(env, weight);
  return js;
}

Napi::Object change_error_to_js(Napi::Env env, const ChangeError& error) {
  auto js = Napi::Object::New(env);
  js.Set("path", bytes_to_js(env, error.path));
  if (error.refused) {
    js.Set("refused", refused_to_js(env, *error.refused));
  } else if (*error.artefact != '\0') {
    js.Set("artefact", error.artefact);
  } else {
    js.Set("error", error_to_js(env, error.error));
  }
  return js;
}

// The buffer goes over as it is; it is freed when JavaScript lets go of it.
Napi::Value owned_bytes_to_js(Napi::Env env, std::string bytes) {
  auto owned = std::make_unique<std::string>(std::move(bytes));
  auto js = Napi::Buffer<char>::New(
      env, owned->data(), owned->size(), [](Napi::Env, char*, std::string* dropped) { delete dropped; },
      owned.get());
  if (!js.IsEmpty()) std::ignore = owned.release();
  return js;
}

Napi::Value batch_to_js(Napi::Env env, const ChangeWalk::Batch& batch, std::string packed) {
  auto js = Napi::Object::New(env);
  js.Set("count", static_cast<double>(batch.records.count()));
  js.Set("records", owned_bytes_to_js(env, std::move(packed)));
  js.Set("kinds", array_to_js(env, batch.records.kinds,
                              [env](uint32_t kind) { return Napi::Number::New(env, kind); }));
  js.Set("errors", array_to_js(env, batch.records.errors,
                               [env](const ChangeError& error) { return change_error_to_js(env, error); }));
  js.Set("ended", batch.ended);
  js.Set("consistent", batch.consistent);
  js.Set("scannedLower", batch.scanned_lower);
  js.Set("renamesCut", batch.renames_cut);
  return js;
}

}  // namespace

// A worker that is being terminated may hand over nothing.
std::optional<MergedLayers> layers_of_walk(const Napi::Value& changes) {
  const WalkPtr walk = changes.IsExternal() ? walk_from(changes) : nullptr;
  return walk ? std::optional(walk->layers()) : std::nullopt;
}

SysError no_walk() { return {EBADF, "changes", "closed", {}, {}}; }

Napi::Value open_changes_verb(const Napi::CallbackInfo& info) {
  return run_on_layers(
      info.Env(),
      [stack = stack_from(info[0]), options = options_from(info[1].As<Napi::Object>())] {
        return ChangeWalk::open(stack, options);
      },
      [](const WalkPtr& walk) -> Result<WalkPtr> { return walk; }, walk_to_js);
}

Napi::Value next_changes_verb(const Napi::CallbackInfo& info) {
  struct Next {
    ChangeWalk::Batch batch;
    std::string packed;
  };
  return run_result(
      info.Env(),
      [held = walk_from(info[0])]() mutable -> Result<Next> {
        // Not held until the promise is settled: close() is to be the last who has it.
        const WalkPtr walk = std::move(held);
        if (!walk) return SysError{ECANCELED, "getdents64", "closed", {}, {}};
        Next next{TRY(walk->next()), {}};
        next.packed = next.batch.records.pack();
        return next;
      },
      [](Napi::Env env, Next next) { return batch_to_js(env, next.batch, std::move(next.packed)); });
}

Napi::Value open_change_source_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [walk = walk_from(info[0]), layer = info[1].As<Napi::Number>().Int64Value(),
       path = bytes_from(info[2])]() -> Result<Fd> {
        if (!walk) return SysError{ECANCELED, "openat2", "closed", path, {}};
        return walk->open_source(layer < 0 ? kIndexLayer : static_cast<size_t>(layer), path);
      },
      [](Napi::Env env, Fd fd) -> Napi::Value {
        auto js = Napi::Object::New(env);
        js.Set("fd", fd.get());
        js.Set("opened", owned_to_js(env, std::move(fd)));
        return js;
      });
}

Napi::Value cancel_changes_verb(const Napi::CallbackInfo& info) {
  if (const WalkPtr walk = walk_from(info[0])) walk->cancel();
  return info.Env().Undefined();
}

Napi::Value end_changes_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [walk = walk_from(info[0])]() -> Result<bool> {
        if (walk) walk->end();
        return true;
      },
      undefined_to_js);
}

Napi::Value close_changes_verb(const Napi::CallbackInfo& info) {
  WalkPtr& held = *info[0].As<Napi::External<WalkPtr>>().Data();
  if (held) held->cancel();
  return run_result(
      info.Env(),
      [walk = std::move(held)]() mutable -> Result<bool> {
        if (walk) walk->end();
        walk.reset();
        return true;
      },
      undefined_to_js);
}

}  // namespace overlayfs
