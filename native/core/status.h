// statx(2) of a name in an open directory.
#pragma once

#include <optional>
#include <string>

#include "kernel_abi.h"
#include "result.h"

namespace overlayfs {

// Basic fields, the birth time where there is one. None: nothing of that name is there. A symbolic link is
// looked at itself; what is mounted there is EXDEV, since it lies in no layer. An empty name is the
// descriptor's own file.
Result<std::optional<abi::Statx>> status_of(int directory, const std::string& name);

// The numbers that stat(2) has for the device that the file lies on, and that it stands for.
uint64_t device_of(const abi::Statx& status);
uint64_t represented_device(const abi::Statx& status);

}  // namespace overlayfs
