// What the package asks of the kernel when it lists the mounted overlays, or looks a mount over before it is
// made: the same system calls, and nothing kept of the answers.
#pragma once

#include "overlay.h"

namespace twin {

// listmount(2), and statmount(2) of every mount; gives how many are overlays.
int list_overlays();

// Every layer by itself, then all of them in a file system context that is never created, and the lowers in
// an overlay that is never attached.
void examine(const Room& room);

}  // namespace twin
