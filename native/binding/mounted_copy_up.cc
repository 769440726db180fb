#include "../core/mounted_copy_up.h"

#include "../core/sys.h"
#include "copy_up_batch.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using Run = std::shared_ptr<MountedCopyUp>;

Result<Fd> open_overlay(const DirectoryRef& ref) {
  Fd root = TRY(open_directory(ref));
  struct statfs fs {};
  if (sys::fstatfs(root.get(), &fs) != 0) return failed("fstatfs", {}, ref.shown());
  if (fs.f_type != abi::OVERLAYFS_SUPER_MAGIC) return SysError{EINVAL, "fstatfs", {}, ref.shown(), {}};
  return root;
}

const char* reason_of(MountedOutcome outcome) {
  switch (outcome) {
    case MountedOutcome::copied:
      return "";
    case MountedOutcome::copied_or_present:
      return "it may have been in the upper already: its file system keeps no times of birth";
    case MountedOutcome::metadata:
      return "its metadata alone: the program is running, and the overlay has metacopy";
    case MountedOutcome::present:
      return "in the upper already";
    case MountedOutcome::immutable:
      return "immutable";
    case MountedOutcome::append_only:
      return "append-only";
    case MountedOutcome::other_mount:
      return "on another mount";
    case MountedOutcome::vanished:
      return "removed meanwhile";
  }
  return "";
}

CopyUpRow row_of(MountedEntry& entry) {
  const bool is_done = entry.outcome == MountedOutcome::copied ||
                       entry.outcome == MountedOutcome::copied_or_present ||
                       entry.outcome == MountedOutcome::metadata;
  return {.path = std::move(entry.path),
          .method = is_done ? CopyUpMethod::kernel : CopyUpMethod::skipped,
          .bytes = entry.bytes,
          .cloned = false,
          .reason = reason_of(entry.outcome)};
}

}  // namespace

Napi::Value open_mounted_copy_up_verb(const Napi::CallbackInfo& info) {
  const Napi::Value overlay = info[0];
  const LiveMountPtr live = overlay.IsExternal() ? mount_from(overlay) : nullptr;
  const DirectoryRef ref = live ? DirectoryRef{} : directory_from(overlay);
  const auto js = info[2].As<Napi::Object>();
  const Napi::Value threads = get(js, "concurrency");
  const MountedCopyUpOptions options{
      .recursive = truth(get(js, "recursive")),
      .threads = threads.IsNumber() ? threads.As<Napi::Number>().Uint32Value() : 1,
      .metacopy = truth(get(js, "metacopy")),
      .progress = progress_from(get(js, "progress"))};
  return run_result(
      info.Env(),
      [live, ref, options, paths = paths_from(info[1])]() -> Result<Run> {
        Fd root = TRY(live ? open_root(*live) : open_overlay(ref));
        return std::make_shared<MountedCopyUp>(std::move(root), paths, options);
      },
      [](Napi::Env env, Run opened) -> Napi::Value { return owned_to_js(env, std::move(opened)); });
}

Napi::Value next_mounted_copy_up_verb(const Napi::CallbackInfo& info) {
  const Cancel cancel = cancel_from(info[1]);
  ExitGate::of(info.Env()).cancel_at_exit(cancel);
  return run_result(
      info.Env(),
      [run = *info[0].As<Napi::External<Run>>().Data(), cancel]() -> Result<std::vector<MountedEntry>> {
        if (run == nullptr) return SysError{EBADF, "openat2", "closed", {}, {}};
        return run->next(cancel);
      },
      [](Napi::Env env, std::vector<MountedEntry> entries) -> Napi::Value {
        std::vector<CopyUpRow> rows;
        rows.reserve(entries.size());
        for (MountedEntry& entry : entries) rows.push_back(row_of(entry));
        return copy_up_batch_to_js(env, rows);
      });
}

Napi::Value close_mounted_copy_up_verb(const Napi::CallbackInfo& info) {
  info[0].As<Napi::External<Run>>().Data()->reset();
  return info.Env().Undefined();
}

}  // namespace overlayfs
