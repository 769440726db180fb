#include "rehearse.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <memory>

#include "scratch.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr int kCleanableLevels =
    2;  // of entries below work/work: ovl_workdir_cleanup_recurse() goes no deeper

// How many levels of entries lie below this directory, counted no further than `most`.
int nested_levels(int directory, int most) {
  if (most == 0) return 0;
  Fd copy(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(copy ? ::fdopendir(copy.get()) : nullptr, ::closedir);
  if (!entries) return 0;
  copy.release();  // the stream closes it
  int deepest = 0;
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    // What is in there the kernel does not clean but refuses, and says why.
    if (name == "incompat" && most == kCleanableLevels + 1) continue;
    deepest = std::max(deepest, 1);
    const Fd child(sys::openat(directory, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
    if (child) deepest = std::max(deepest, 1 + nested_levels(child.get(), most - 1));
    if (deepest == most) break;
  }
  return deepest;
}

Result<OpenLayer> open_layer(const DirectoryRef& ref) {
  Fd fd = TRY(open_directory(ref));
  const DirectoryIdentity identity = TRY(identify(fd.get(), ref.shown()));
  return OpenLayer{std::move(fd), ref.fd >= 0 ? "" : ref.path, identity};
}

bool needs_upper(const std::string& key) {
  return key == "index" || key == "nfs_export" || key == "volatile";
}

// The lowers alone, over one empty directory more: nesting, file systems and layers that overlap show here.
Result<void> create_lowers(OverlaySpec& spec, Rung rung, bool detached_layers) {
  const ScratchTmpfs scratch = TRY(ScratchTmpfs::create(std::nullopt, !detached_layers));
  spec.upper.reset();
  spec.work.reset();
  spec.readonly = true;
  std::erase_if(spec.options, [](const OverlayOption& option) { return needs_upper(option.key); });
  if (spec.lower.size() + spec.data_only_lower.size() < 2) {
    spec.lower.push_back({TRY(scratch.make_directory("empty")), {}, {}});
  }
  TRY(create_detached(spec, rung));
  return {};
}

// Two empty lowers for overlays that are thrown away.
struct TrialLowers {
  ScratchTmpfs scratch;
  Fd one, two;

  static Result<TrialLowers> make() {
    ScratchTmpfs scratch = TRY(ScratchTmpfs::create(std::nullopt, true));
    Fd one = TRY(scratch.make_directory("one"));
    Fd two = TRY(scratch.make_directory("two"));
    return TrialLowers{std::move(scratch), std::move(one), std::move(two)};
  }
};

// Sets it in a context of its own and, given lowers, creates an overlay with it.
int try_option(const OverlayOption& option, const TrialLowers* lowers) {
  auto context = FsContext::open("overlay");
  if (!context) return context.error().err;
  auto outcome =
      option.value ? context->set_string(option.key, *option.value) : context->set_flag(option.key);
  if (outcome && lowers != nullptr)
    outcome = context->set_string("lowerdir", fd_name(lowers->one.get()) + ":" + fd_name(lowers->two.get()));
  if (outcome && lowers != nullptr) outcome = context->create();
  return outcome ? 0 : outcome.error().err;
}

}  // namespace

Result<Rehearsal> rehearse_overlay(const MountPlan& plan) {
  Rehearsal rehearsal;
  const Rung rung = plan.rungs.empty() ? Rung::layer_names : plan.rungs.front();
  rehearsal.complete = rung == Rung::layer_fds || rung == Rung::layer_names;

  OverlaySpec spec;
  for (const DirectoryRef& ref : plan.lower) spec.lower.push_back(TRY(open_layer(ref)));
  for (const DirectoryRef& ref : plan.data_only_lower) spec.data_only_lower.push_back(TRY(open_layer(ref)));
  if (plan.upper) spec.upper = TRY(open_layer(*plan.upper));
  if (plan.work) spec.work = TRY(open_layer(*plan.work));
  spec.options = plan.options;
  spec.source = plan.source;
  spec.readonly = plan.readonly;

  if (spec.upper && spec.work) {
    rehearsal.in_use = probe_in_use(*spec.upper, *spec.work, rung, plan.detached_layers);
    if (const Fd work{sys::openat(spec.work->fd.get(), "work", O_PATH | O_DIRECTORY | O_NOFOLLOW)}) {
      rehearsal.work_uncleanable = nested_levels(work.get(), kCleanableLevels + 1) > kCleanableLevels;
    }
  }
  if (!rehearsal.complete) return rehearsal;
  const auto fail = [&](SysError error) {
    MountFailure failure;
    failure.step = Step::create;
    failure.error = std::move(error);
    rehearsal.failure = std::move(failure);
  };
  if (auto set = configure(spec, rung); !set) {
    fail(std::move(set).error());
  } else if (auto created = create_lowers(spec, rung, plan.detached_layers); !created) {
    fail(std::move(created).error());
  }
  return rehearsal;
}

Result<std::vector<int>> try_options(const std::vector<OverlayOption>& options) {
  std::vector<int> errors;
  auto context = FsContext::open("overlay");
  if (!context) return std::vector<int>(options.size(), context.error().err);
  if (checks_options_at_once(*context)) {
    for (const OverlayOption& option : options) errors.push_back(try_option(option, nullptr));
    return errors;
  }
  const TrialLowers lowers = TRY(TrialLowers::make());
  for (const OverlayOption& option : options) errors.push_back(try_option(option, &lowers));
  return errors;
}

}  // namespace overlayfs
