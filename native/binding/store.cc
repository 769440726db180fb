#include <fcntl.h>

#include "../core/beneath.h"
#include "../core/directory.h"
#include "../core/file_lock.h"
#include "../core/layer_copy.h"
#include "../core/layer_usage.h"
#include "../core/merged_links.h"
#include "../core/store_lock.h"
#include "../core/store_read.h"
#include "../core/store_steps.h"
#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

StoreAction action_from(const Napi::Value& value) {
  const std::string name = text(value);
  for (int i = 0; i <= static_cast<int>(StoreAction::syncfs); ++i) {
    if (name == store_action_name(static_cast<StoreAction>(i))) return static_cast<StoreAction>(i);
  }
  return StoreAction::sync;
}

// [action, path, other?, mode?]
StoreStep step_from(const Napi::Value& value) {
  StoreStep step;
  if (!value.IsArray()) return step;
  const auto js = value.As<Napi::Array>();
  step.action = action_from(get(js, 0));
  step.path = bytes_from(get(js, 1));
  step.other = bytes_from(get(js, 2));
  if (const Napi::Value mode = get(js, 3); mode.IsNumber()) step.mode = mode.As<Napi::Number>().Uint32Value();
  return step;
}

// A lock, and what was read under it.
struct LockedRead {
  Fd lock;
  std::string read;
};

// A directory in the store, readable.
Result<Fd> open_in_store(const DirectoryRef& root, const std::string& path) {
  const Fd opened = TRY(open_directory(root));
  return open_beneath(opened.get(), path, O_RDONLY | O_DIRECTORY);
}

Result<bool> copy_into_store(const DirectoryRef& from, const DirectoryRef& root, const std::string& path,
                             const LayerCopyOptions& options) {
  const Fd source = TRY(open_directory(from));
  const Fd readable = TRY(reopen_readable(source.get(), from.shown()));
  const Fd target = TRY(open_in_store(root, path));
  TRY(copy_layer(readable.get(), target.get(), options));
  return true;
}

Viewed<bool> link_into_store(const LayerStack& stack, const DirectoryRef& root, const std::string& path,
                             const MergedLinksOptions& options) {
  const MergedView view(TRY(MergedLayers::open(stack)));
  const Fd target = TRY(open_in_store(root, path));
  return link_merged(view, target.get(), options);
}

size_t most_from(const Napi::Value& value) {
  return static_cast<size_t>(value.As<Napi::Number>().Int64Value());
}

}  // namespace

Napi::Value run_store_steps_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(),
      [root = directory_from(info[0]), steps = each(info[1], step_from),
       durable = truth(info[2])]() -> std::optional<StoreFailure> {
        auto opened = open_directory(root);
        if (!opened) return StoreFailure{opened.error(), 0};
        return run_store_steps(opened->get(), steps, durable);
      },
      [](Napi::Env env, const std::optional<StoreFailure>& failure) -> Settled {
        if (!failure) return {true, env.Undefined()};
        auto js = error_to_js(env, failure->error);
        js.Set("step", static_cast<double>(failure->step));
        return {false, js};
      });
}

Napi::Value lock_in_store_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [root = directory_from(info[0]), path = bytes_from(info[1]), exclusive = truth(info[2]),
       paths = paths_from(info[3]), most = most_from(info[4])]() -> Result<LockedRead> {
        const Fd opened = TRY(open_directory(root));
        const StoreLock kind = exclusive ? StoreLock::exclusive : StoreLock::shared;
        Fd lock = TRY(lock_directory(opened.get(), path, kind));
        std::string read = TRY(read_store(opened.get(), paths, most));
        return LockedRead{std::move(lock), std::move(read)};
      },
      [](Napi::Env env, LockedRead locked) -> Napi::Value {
        auto js = opened_to_js(env, std::move(locked.lock));
        js.Set("read", bytes_to_js(env, locked.read));
        return js;
      });
}

Napi::Value read_store_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [root = directory_from(info[0]), paths = paths_from(info[1]),
       most = most_from(info[2])]() -> Result<std::string> {
        const Fd opened = TRY(open_directory(root));
        return read_store(opened.get(), paths, most);
      },
      bytes_to_js);
}

Napi::Value read_store_names_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [root = directory_from(info[0]), paths = paths_from(info[1])]() -> Result<std::string> {
        const Fd opened = TRY(open_directory(root));
        return read_store_names(opened.get(), paths);
      },
      bytes_to_js);
}

Napi::Value file_lock_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [path = bytes_from(info[0])] { return file_lock(path); },
      [](Napi::Env env, FileLock lock) -> Napi::Value {
        return Napi::String::New(env, lock == FileLock::flock   ? "flock"
                                      : lock == FileLock::fcntl ? "fcntl"
                                                                : "none");
      });
}

Napi::Value copy_layer_verb(const Napi::CallbackInfo& info) {
  LayerCopyOptions options{text(info[3]), cancel_from(info[4]), progress_from(info[5])};
  return run_result(
      info.Env(),
      [from = directory_from(info[0]), root = directory_from(info[1]), path = bytes_from(info[2]),
       options = std::move(options)] { return copy_into_store(from, root, path, options); },
      undefined_to_js);
}

Napi::Value link_merged_verb(const Napi::CallbackInfo& info) {
  MergedLinksOptions options{cancel_from(info[3]), progress_from(info[4])};
  return run(
      info.Env(),
      [stack = stack_from(info[0]), root = directory_from(info[1]), path = bytes_from(info[2]),
       options = std::move(options)] { return link_into_store(stack, root, path, options); },
      [](Napi::Env env, const Viewed<bool>& outcome) -> Settled {
        if (outcome.value) return {true, env.Undefined()};
        auto error = error_to_js(env, outcome.error);
        if (outcome.refused) error.Set("refused", refused_to_js(env, *outcome.refused));
        return {false, error};
      });
}

Napi::Value measure_layer_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [root = directory_from(info[0]), path = bytes_from(info[1]), shared = truth(info[2]),
       cancel = cancel_from(info[3]), tree = bytes_from(info[4])]() -> Result<LayerUsage> {
        const Fd directory = TRY(open_in_store(root, path));
        Fd other;
        if (!tree.empty()) other = TRY(open_in_store(root, tree));
        return measure_layer(directory.get(), other ? other.get() : -1, shared, cancel);
      },
      [](Napi::Env env, const LayerUsage& usage) -> Napi::Value {
        auto js = Napi::Object::New(env);
        const auto set = [&](const char* name, uint64_t value) {
          js.Set(name, Napi::BigInt::New(env, value));
        };
        set("apparent", usage.apparent);
        set("allocated", usage.allocated);
        set("inodes", usage.inodes);
        set("hardLinked", usage.hard_linked);
        set("reflinked", usage.reflinked);
        return js;
      });
}

}  // namespace overlayfs
