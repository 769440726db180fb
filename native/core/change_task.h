// The walk itself: a task for each directory, or for each thousand names of one.
#pragma once

#include <memory>

#include "change_context.h"

namespace overlayfs {

// The root and everything below it.
std::unique_ptr<OrderedWork::Task> first_change_task(std::shared_ptr<ChangeContext> context);

}  // namespace overlayfs
