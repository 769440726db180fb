#include "proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fd.h"
#include "sys.h"

namespace overlayfs {
namespace {

// Cuts the number that `rest` begins with off it, and the one character behind it.
uint64_t cut_number(std::string_view& rest, int base) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value, base);
  rest.remove_prefix(std::min(rest.size(), static_cast<size_t>(end - rest.data()) + 1));
  return value;
}

std::string_view cut_word(std::string_view& rest) {
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  return word;
}

}  // namespace

void DirectoryStream::start(int directory) {
  directory_ = directory;
  at_ = end_ = 0;
  error_ = 0;
}

const char* DirectoryStream::next() {
  while (true) {
    if (at_ == end_) {
      const ssize_t size = sys::getdents64(directory_, buffer_.data(), buffer_.size());
      if (size <= 0) {
        error_ = size < 0 ? errno : 0;
        return nullptr;
      }
      at_ = 0;
      end_ = static_cast<size_t>(size);
    }
    const auto* entry = reinterpret_cast<const dirent64*>(buffer_.data() + at_);
    at_ += entry->d_reclen;
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    type_ = entry->d_type;
    return entry->d_name;
  }
}

int read_file(int directory, const char* name, std::string& text) {
  text.clear();
  const Fd file(sys::openat(directory, name, O_RDONLY));
  if (!file) return errno;
  return read_whole(file.get(), text);
}

int read_whole(int file, std::string& text) {
  text.clear();
  for (size_t end = 0;;) {
    text.resize(end + 16384);
    const ssize_t size = ::read(file, text.data() + end, text.size() - end);
    if (size <= 0) {
      text.resize(end);
      return size < 0 ? errno : 0;
    }
    end += static_cast<size_t>(size);
  }
}

std::string link_target(int directory, const char* name) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(directory, name, target.data(), target.size());
  return size < 0 ? std::string() : std::string(target.data(), static_cast<size_t>(size));
}

uint64_t namespace_inode(int directory, const char* name) {
  std::array<char, 64> link{};
  if (sys::readlinkat(directory, name, link.data(), link.size() - 1) < 0) return 0;
  const char* inode = std::strchr(link.data(), '[');
  return inode == nullptr ? 0 : std::strtoull(inode + 1, nullptr, 10);
}

uint64_t mount_id_from_fdinfo(int process_directory, const char* fd) {
  std::string text;
  if (read_file(process_directory, ("fdinfo/" + std::string(fd)).c_str(), text) != 0) return 0;
  const size_t found = text.find("mnt_id:");
  return found == std::string::npos ? 0 : std::strtoull(text.c_str() + found + 7, nullptr, 10);
}

// In maps addresses have eight digits or more, in map_files no zero goes before.
std::string MappedFile::link() const {
  std::string_view ends = range;
  const unsigned long long start = cut_number(ends, 16), end = cut_number(ends, 16);
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "map_files/%llx-%llx", start, end);
  return text.data();
}

int ProcessMaps::read(int process_directory) {
  at_ = 0;
  return read_file(process_directory, "maps", text_);
}

// 7f0000000000-7f0000001000 r-xp 00002000 00:29 10                         /tmp/merged/program
const MappedFile* ProcessMaps::next() {
  while (at_ < text_.size()) {
    std::string_view line = std::string_view(text_).substr(at_, text_.find('\n', at_) - at_);
    at_ += line.size() + 1;
    file_.range = cut_word(line);
    cut_word(line);  // permissions
    cut_word(line);  // offset
    const uint64_t major = cut_number(line, 16);
    file_.device = major << 32 | cut_number(line, 16);
    const uint64_t inode = cut_number(line, 10);
    if (inode == 0) continue;  // no file
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    file_.path = line;
    return &file_;
  }
  return nullptr;
}

}  // namespace overlayfs
