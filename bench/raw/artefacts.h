// What the package asks of the kernel for whiteouts and attributes: the same system calls, in one thread.
#pragma once

namespace twin {

inline constexpr int kNames = 10'000;  // as bench/artefacts.mjs

// Device whiteouts `raw/0` … in the room's upper, and away with them.
void make_whiteouts();
void remove_whiteouts();

// One attribute of each of the files `files/0` … in the room's upper.
void set_attributes();
void get_attributes();

}  // namespace twin
