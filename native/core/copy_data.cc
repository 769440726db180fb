#include "copy_data.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "sys.h"

namespace overlayfs {
namespace {

constexpr size_t kChunk = size_t{16} << 20;  // what is copied before cancelling is looked at
constexpr size_t kCopyBuffer = size_t{1} << 20;

// An error of the file itself, which no other way would get around.
bool is_final(int error) {
  switch (error) {
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EROFS:
      return true;
    default:
      return false;
  }
}

SysError shrunk(const char* call) { return {ESTALE, call, "the file has shrunk meanwhile", {}, {}}; }

class Copier {
 public:
  Copier(int from, int to, const CopyControl& control) : from_(from), to_(to), control_(control) {}

  // [start, end) of the source, without a hole in it.
  Result<void> copy_range(uint64_t start, uint64_t end) {
    position_ = static_cast<off_t>(start);
    placed_ = false;
    while (static_cast<uint64_t>(position_) < end) {
      if (cancelled(control_.cancel)) return SysError{ECANCELED, name(), "aborted", {}, {}};
      const ssize_t count = TRY(copy_chunk(std::min<uint64_t>(end - position_, kChunk)));
      if (count == 0) return shrunk("read");
      count_bytes(static_cast<uint64_t>(count));
    }
    return {};
  }

  void count_bytes(uint64_t bytes) {
    bytes_ += bytes;
    if (control_.copied != nullptr) control_.copied->fetch_add(bytes, std::memory_order_relaxed);
  }

  CopiedData outcome() const { return {bytes_ == 0 ? CopyMethod::read_write : method_, bytes_}; }

 private:
  const char* name() const { return copy_method_name(method_); }

  // Goes one rung down where this one cannot be had, or gives nothing where there is something: some file
  // systems answer copy_file_range(2) and sendfile(2) with 0 before the end of the file.
  Result<ssize_t> copy_chunk(size_t size) {
    while (true) {
      const ssize_t count = try_chunk(size);
      if (count > 0) return count;
      if (count < 0 && errno == EINTR) continue;
      if (method_ == CopyMethod::read_write) {
        if (count == 0) return ssize_t{0};
        return failed("read, write");
      }
      if (count < 0 && is_final(errno)) return failed(name());
      method_ = method_ == CopyMethod::copy_file_range ? CopyMethod::sendfile : CopyMethod::read_write;
    }
  }

  ssize_t try_chunk(size_t size) {
    if (method_ == CopyMethod::copy_file_range) {
      off_t to_at = position_;
      return sys::copy_file_range(from_, &position_, to_, &to_at, size);
    }
    // The others write where the descriptor stands.
    if (!placed_ && sys::lseek(to_, position_, SEEK_SET) < 0) return -1;
    placed_ = true;
    if (method_ == CopyMethod::sendfile) return sys::sendfile(to_, from_, &position_, size);
    return read_and_write(std::min(size, kCopyBuffer));
  }

  ssize_t read_and_write(size_t size) {
    if (buffer_ == nullptr) buffer_ = std::make_unique_for_overwrite<char[]>(kCopyBuffer);
    const ssize_t count = sys::pread(from_, buffer_.get(), size, position_);
    for (ssize_t written = 0; written < count;) {
      const ssize_t more = sys::write(to_, buffer_.get() + written, static_cast<size_t>(count - written));
      if (more < 0 && errno != EINTR) return -1;
      written += std::max<ssize_t>(more, 0);
    }
    if (count > 0) position_ += count;
    return count;
  }

  int from_, to_;
  const CopyControl& control_;
  CopyMethod method_ = CopyMethod::copy_file_range;
  off_t position_ = 0;
  bool placed_ = false;  // the target's own offset is at `position_`
  uint64_t bytes_ = 0;
  std::unique_ptr<char[]> buffer_;
};

Result<uint64_t> size_of(int fd) {
  struct stat st {};
  if (sys::fstatat(fd, "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
  return static_cast<uint64_t>(st.st_size);
}

Result<void> set_size(int to, uint64_t size) {
  if (sys::ftruncate(to, static_cast<off_t>(size)) != 0) return failed("ftruncate");
  return {};
}

// Where the source's next data lies; a file system that knows no holes has data everywhere.
struct Range {
  uint64_t start, end;
};
Range next_data(int from, uint64_t at, uint64_t size) {
  const off_t start = sys::lseek(from, static_cast<off_t>(at), SEEK_DATA);
  if (start < 0) return errno == ENXIO ? Range{size, size} : Range{at, size};
  const off_t end = sys::lseek(from, start, SEEK_HOLE);
  return {std::min(static_cast<uint64_t>(start), size),
          end < 0 ? size : std::min(static_cast<uint64_t>(end), size)};
}

}  // namespace

const char* copy_method_name(CopyMethod method) {
  switch (method) {
    case CopyMethod::clone:
      return "clone";
    case CopyMethod::copy_file_range:
      return "copy_file_range";
    case CopyMethod::sendfile:
      return "sendfile";
    case CopyMethod::read_write:
      break;
  }
  return "read-write";
}

Result<CopiedData> copy_data(int from, int to, uint64_t size, const CopyControl& control) {
  Copier copier(from, to, control);
  if (size == 0) return copier.outcome();
  if (cancelled(control.cancel)) return SysError{ECANCELED, "FICLONE", "aborted", {}, {}};
  if (sys::ficlone(to, from) == 0) {
    // It takes the file as it is now, which may not be as long as it was.
    const uint64_t cloned = TRY(size_of(to));
    if (cloned < size) return shrunk("FICLONE");
    if (cloned > size) TRY(set_size(to, size));
    if (control.copied != nullptr) control.copied->fetch_add(size, std::memory_order_relaxed);
    return CopiedData{CopyMethod::clone, size};
  }
  if (is_final(errno)) return failed("ioctl", "FICLONE");

  uint64_t end = 0;
  for (Range data = next_data(from, 0, size); data.start < size; data = next_data(from, end, size)) {
    TRY(copier.copy_range(data.start, data.end));
    end = data.end;
    if (end >= size) break;
  }
  if (end < size) {
    // What SEEK_DATA calls a hole may be a source that has been cut off.
    if (TRY(size_of(from)) < size) return shrunk("lseek");
    TRY(set_size(to, size));
  }
  return copier.outcome();
}

}  // namespace overlayfs
