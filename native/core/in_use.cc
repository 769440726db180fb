#include "in_use.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include "mount_tree.h"
#include "scratch.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr const char* kNoFileHandles = "the upper's file system has no file handles";
constexpr const char* kNotTaken = "the kernel would not take upper and work as lowers of a probe";

Result<OpenLayer> borrow(const OpenLayer& layer) {
  Fd copy(sys::dup_fd(layer.fd.get()));
  if (!copy) return failed("fcntl", "F_DUPFD_CLOEXEC", layer.path);
  return OpenLayer{std::move(copy), {}, layer.identity};
}

// 0 when the kernel takes the candidates, EBUSY when they are in use, any other errno when it cannot tell.
Result<int> try_as_lowers(const std::vector<const OpenLayer*>& candidates, Rung rung, bool detached_layers) {
  const bool by_string = rung == Rung::mount || rung == Rung::mount_fd_names;
  const ScratchTmpfs scratch = TRY(ScratchTmpfs::create(std::nullopt, by_string || !detached_layers));
  OverlaySpec spec;
  spec.source = "overlayfs-in-use-probe";
  spec.options = {{"index", "on"}};
  spec.upper = OpenLayer{TRY(scratch.make_directory("upper")), {}, {}};
  spec.work = OpenLayer{TRY(scratch.make_directory("work")), {}, {}};
  for (const OpenLayer* candidate : candidates) spec.lower.push_back(TRY(borrow(*candidate)));
  if (!by_string) {
    auto mounted = create_detached(spec, rung);
    return mounted ? 0 : mounted.error().err;
  }
  const Fd target = TRY(scratch.make_directory("target"));
  auto mounted = create_at(spec, Rung::mount, fd_name(target.get()));
  if (!mounted) return mounted.error().err;
  // It hangs inside the scratch mount, which is detached with everything below it.
  return 0;
}

// Inside a user namespace the probe always says free; without file handles index=on is switched off in
// silence.
bool has_file_handles(const OpenLayer& upper) {
  auto readable = reopen_readable(upper.fd.get(), upper.path);
  return readable && sys::has_file_handles(readable->get());
}

}  // namespace

InUseAnswer probe_in_use(const OpenLayer& upper, const OpenLayer& work, Rung rung, bool detached_layers) {
  if (!has_file_handles(upper)) return {InUse::unknown, kNoFileHandles};
  auto both = try_as_lowers({&upper, &work}, rung, detached_layers);
  if (!both) return {InUse::unknown, std::string(both.error().call) + " failed"};
  const int error = *both;
  if (error == 0) return {InUse::no, {}};
  if (error != EBUSY) return {InUse::unknown, kNotTaken};
  auto work_alone = try_as_lowers({&work}, rung, detached_layers);
  auto upper_alone = try_as_lowers({&upper}, rung, detached_layers);
  const bool only_work = work_alone && *work_alone == EBUSY && upper_alone && *upper_alone == 0;
  return {only_work ? InUse::work : InUse::upper, {}};
}

InUseAnswer probe_in_use(const OpenLayer& upper, Rung rung, bool detached_layers) {
  if (!has_file_handles(upper)) return {InUse::unknown, kNoFileHandles};
  auto alone = try_as_lowers({&upper}, rung, detached_layers);
  if (!alone) return {InUse::unknown, std::string(alone.error().call) + " failed"};
  if (*alone != 0 && *alone != EBUSY) return {InUse::unknown, kNotTaken};
  return {*alone == 0 ? InUse::no : InUse::upper, {}};
}

InUseAnswer probe_in_use(const OpenLayer& directory, bool detached_layers) {
  InUseAnswer answer;
  for (const Rung rung : {Rung::layer_fds, Rung::layer_names, Rung::mount}) {
    answer = probe_in_use(directory, rung, detached_layers);
    if (answer.answer != InUse::unknown) break;
  }
  return answer;
}

Result<Fd> lock_work_directory(const OpenLayer& work) {
  Fd lock = TRY(reopen_readable(work.fd.get(), work.path));
  constexpr int tries = 2000;
  constexpr timespec pause{0, 1'000'000};
  for (int i = 0; sys::flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EWOULDBLOCK || i == tries) return failed("flock", "LOCK_EX", work.path);
    nanosleep(&pause, nullptr);
  }
  return lock;
}

}  // namespace overlayfs
