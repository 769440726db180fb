#include "store_read.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

#include "beneath.h"
#include "sys.h"

namespace overlayfs {
namespace {

enum class Found : uint8_t { nothing, file, directory, link, other, unknown };

template <class Number>
void put(std::string& packed, Number number) {
  for (size_t i = 0; i < sizeof number; ++i)
    packed += static_cast<char>(static_cast<uint64_t>(number) >> (8 * i) & 0xff);
}

struct Record {
  Found found = Found::nothing;
  int error = 0;
  struct stat st {};
  std::string bytes;

  void pack(std::string& packed) const {
    put(packed, static_cast<uint8_t>(found));
    put(packed, static_cast<uint16_t>(st.st_mode & 07777));
    put(packed, static_cast<uint32_t>(error));
    put(packed, static_cast<uint32_t>(st.st_uid));
    put(packed, static_cast<uint32_t>(bytes.size()));
    packed += bytes;
  }
};

bool is_absent(int error) { return error == ENOENT || error == ENAMETOOLONG; }

int read_file(int parent, const std::string& name, size_t most, std::string& bytes) {
  const Fd file(sys::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!file) return errno;
  thread_local std::array<char, 64 << 10> buffer;
  while (true) {
    const ssize_t size = sys::read(file.get(), buffer.data(), buffer.size());
    if (size < 0) return errno;
    if (size == 0) return 0;
    bytes.append(buffer.data(), static_cast<size_t>(size));
    if (bytes.size() > most) return EFBIG;
  }
}

int read_link(int parent, const std::string& name, std::string& bytes) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(parent, name.c_str(), target.data(), target.size());
  if (size < 0) return errno;
  bytes.assign(target.data(), static_cast<size_t>(size));
  return 0;
}

Record look(int parent, const std::string& name, size_t most) {
  Record record;
  if (sys::fstatat(parent, name.c_str(), &record.st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
    if (!is_absent(errno)) {
      record.found = Found::unknown;
      record.error = errno;
    }
    return record;
  }
  const mode_t mode = record.st.st_mode;
  record.found = S_ISREG(mode)   ? Found::file
                 : S_ISDIR(mode) ? Found::directory
                 : S_ISLNK(mode) ? Found::link
                                 : Found::other;
  if (S_ISREG(mode) && record.st.st_size != 0) record.error = read_file(parent, name, most, record.bytes);
  if (S_ISLNK(mode)) record.error = read_link(parent, name, record.bytes);
  return record;
}

Result<void> append_names(int directory, const std::string& path, std::string& names) {
  struct Dirent64 {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
  };
  thread_local std::array<char, 64 << 10> buffer;
  while (true) {
    const ssize_t size = sys::getdents64(directory, buffer.data(), buffer.size());
    if (size < 0) return failed("getdents64", {}, path);
    if (size == 0) return {};
    for (ssize_t at = 0; at < size;) {
      const auto& entry = *reinterpret_cast<const Dirent64*>(buffer.data() + at);
      at += entry.reclen;
      if (std::strcmp(entry.name, ".") == 0 || std::strcmp(entry.name, "..") == 0) continue;
      names += static_cast<char>(entry.type);
      names += entry.name;
      names += '\0';
    }
  }
}

}  // namespace

Result<std::string> read_store(int root, const std::vector<std::string>& paths, size_t most) {
  std::string packed, directory;
  Fd parent;
  Record none;  // for every name in a directory that cannot be opened
  bool opened = false;
  for (const std::string& path : paths) {
    const size_t slash = path.rfind('/');
    const std::string above = slash == std::string::npos ? std::string() : path.substr(0, slash);
    if (!opened || above != directory) {
      opened = true;
      directory = above;
      none = {};
      auto found = open_beneath(root, above, O_PATH | O_DIRECTORY);
      if (found) {
        parent = *std::move(found);
      } else {
        parent = Fd();
        const int error = found.error().err;
        if (error == EMFILE || error == ENFILE || error == ENOMEM) return std::move(found).error();
        if (!is_absent(error)) none.found = Found::unknown, none.error = error;
      }
    }
    if (!parent)
      none.pack(packed);
    else
      look(parent.get(), slash == std::string::npos ? path : path.substr(slash + 1), most).pack(packed);
  }
  return packed;
}

Result<std::string> read_store_names(int root, const std::vector<std::string>& paths) {
  std::string packed, names;
  for (const std::string& path : paths) {
    names.clear();
    auto directory = open_beneath(root, path, O_RDONLY | O_DIRECTORY);
    if (!directory && !is_absent(directory.error().err)) return std::move(directory).error();
    if (directory) TRY(append_names(directory->get(), path, names));
    put(packed, static_cast<uint32_t>(names.size()));
    packed += names;
  }
  return packed;
}

}  // namespace overlayfs
