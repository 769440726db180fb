// Our own worker threads. An unmount may wait seconds for a disk; libuv's four threads, which every worker of
// the process shares, must not wait with it.
#pragma once

#include <functional>

namespace overlayfs::threads {

// Process-wide on purpose: the threads serve every environment, are started when first needed and never
// joined. They end with the process, so the addon is linked never to be unmapped; a job that must be over
// before that is waited for by the exit gate.
// 0, or the error number that refused the first thread; the job is not run then.
int run(std::function<void()> job);

}  // namespace overlayfs::threads
