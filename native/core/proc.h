// Reading proc(5): directories in a stream, links, and the files that a process has mapped.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace overlayfs {

// The entries of an open directory, "." and ".." left out.
class DirectoryStream {
 public:
  void start(int directory);
  const char* next();  // valid until the next call; null at the end, and when error() says why
  unsigned char type() const { return type_; }  // DT_*, of what next() gave
  int error() const { return error_; }

 private:
  alignas(8) std::array<char, 32768> buffer_;
  unsigned char type_ = 0;
  int directory_ = -1, error_ = 0;
  size_t at_ = 0, end_ = 0;
};

// The whole of a file into `text`, whose room is used again; 0 or an errno.
int read_file(int directory, const char* name, std::string& text);
int read_whole(int file, std::string& text);

// What a link says; empty, with errno, when it cannot be read.
std::string link_target(int directory, const char* name);

// The inode of a namespace, "mnt:[4026531841]"; 0, with errno, when it cannot be read.
uint64_t namespace_inode(int directory, const char* name);

// The `mnt_id:` of fdinfo; 0 when it is not told.
uint64_t mount_id_from_fdinfo(int process_directory, const char* fd);

// A piece of a file in a process's memory; a library is mapped in several.
struct MappedFile {
  uint64_t device = 0;     // of the superblock: major << 32 | minor
  std::string_view path;   // newlines as \012
  std::string_view range;  // of addresses

  std::string link() const;  // below /proc/PID: "map_files/7f0000000000-7f0000001000"
};

// The lines of proc_pid_maps(5) that are about files.
class ProcessMaps {
 public:
  int read(int process_directory);  // 0 or an errno
  const MappedFile* next();         // valid until the next call

 private:
  std::string text_;
  size_t at_ = 0;
  MappedFile file_;
};

}  // namespace overlayfs
