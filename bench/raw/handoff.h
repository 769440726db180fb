// The least that one asynchronous call can cost: a job handed to a thread, and the thread's answer through an
// eventfd.
#pragma once

namespace twin {

// Hands over one empty job and waits for it in epoll, as an event loop does.
void hand_over();

}  // namespace twin
