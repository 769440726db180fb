// One overlay in a prepared room, made and taken away by the system calls that the package makes for it.
#pragma once

#include <string>
#include <vector>

namespace twin {

// What a row of the benchmark asks for.
struct Shape {
  int lowers = 2, count = 1, threads = 1;
  int entries = 0, changes = 0;  // files of the lower, and how many of them change
  bool writable = false, probe = false, is_volatile = false, scratch = false, detached = false, renames = false;
};

// The room is a directory with lowers l0 …, and for each mount an upper u<i>, a work w<i> and a target m<i>.
struct Room {
  Room(const std::string& path, const Shape& shape);

  std::vector<std::string> lowers, uppers, works, targets;
};

struct Live {
  std::vector<int> lowers;
  int upper = -1, work = -1, root = -1;
};

Live mount_overlay(const Room& room, const Shape& shape, size_t index);
void unmount_overlay(const Room& room, const Shape& shape, size_t index, Live& live);

// An empty tmpfs that is attached nowhere.
int make_tmpfs();

// The question whether upper and work, or one directory, are in use, alone.
void probe_in_use(int upper, int work = -1);

// mount(2) with one page of options, and umount2(2): the least that a mount can cost. Lowers are named
// relative to the room, which is the current directory.
void mount_by_string(const Room& room, const Shape& shape, size_t index);

void clear_volatile_marker(int work);

}  // namespace twin
