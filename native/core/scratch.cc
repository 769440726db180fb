#include "scratch.h"

#include <fcntl.h>
#include <stdlib.h>

#include "directory.h"
#include "fs_context.h"
#include "mount_tree.h"
#include "sys.h"

namespace overlayfs {
namespace {

Result<Fd> detached_tmpfs(const std::optional<uint64_t>& size) {
  const FsContext context = TRY(FsContext::open("tmpfs"));
  TRY(context.set_string("source", "overlayfs-scratch"));
  TRY(context.set_string("mode", "0755"));
  if (size) TRY(context.set_string("size", std::to_string(*size)));
  TRY(context.create());
  return context.mount(0);
}

}  // namespace

Result<ScratchTmpfs> ScratchTmpfs::create(std::optional<uint64_t> size, bool attached) {
  ScratchTmpfs scratch;
  auto detached = detached_tmpfs(size);
  // EPERM may be a seccomp filter that does not know fsopen(2); without privilege mount(2) says the same.
  if (!detached && detached.error().err != ENOSYS && detached.error().err != EPERM)
    return std::move(detached).error();
  if (detached && !attached) {
    scratch.root_ = *std::move(detached);
    return scratch;
  }

  std::string name = "/tmp/overlayfs-XXXXXX";  // mkdtemp(3) makes it 0700
  if (::mkdtemp(name.data()) == nullptr) return failed("mkdir", {}, name);
  scratch.name_ = name;
  if (detached) {
    const Fd target = TRY(open_directory({name}));
    TRY(attach_mount(detached->get(), target.get(), name));
  } else {
    const std::string data = "mode=0755" + (size ? ",size=" + std::to_string(*size) : "");
    if (sys::mount("overlayfs-scratch", name.c_str(), "tmpfs", 0, data.c_str()) != 0) {
      return failed("mount", data, name);
    }
  }
  scratch.root_ = TRY(open_directory({name}));
  TRY(set_propagation(scratch.root_.get(), abi::MS_PRIVATE));
  return scratch;
}

Result<Fd> ScratchTmpfs::make_directory(const char* name) const {
  if (sys::mkdirat(root_.get(), name, 0755) != 0) return failed("mkdirat", {}, name);
  Fd directory(sys::openat(root_.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (!directory) return failed("openat", {}, name);
  return directory;
}

void ScratchTmpfs::release_name() {
  if (name_.empty()) return;
  sys::umount2(name_.c_str(), abi::UMOUNT_NOFOLLOW | abi::MNT_DETACH);
  sys::unlinkat(AT_FDCWD, name_.c_str(), AT_REMOVEDIR);
  name_.clear();
}

}  // namespace overlayfs
