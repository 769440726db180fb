// Included first in every file of the prebuilt binaries, and only there. They are made on a newer system than the oldest that
// Node supports (glibc 2.28, GCC 8's libstdc++) and must load on that one too: names the older version of each symbol whose
// newest one it has not. test/package/prebuilds.test.ts says when one is missing here.
#pragma once

#include <bits/c++config.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OLDEST_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST_GLIBC "GLIBC_2.17"
#endif

// Moved from libpthread to libc, and versioned anew, by glibc 2.32 and 2.34.
__asm__(".symver pthread_mutex_trylock, pthread_mutex_trylock@" OLDEST_GLIBC);
__asm__(".symver pthread_create, pthread_create@" OLDEST_GLIBC);
__asm__(".symver pthread_detach, pthread_detach@" OLDEST_GLIBC);
__asm__(".symver pthread_join, pthread_join@" OLDEST_GLIBC);
__asm__(".symver pthread_sigmask, pthread_sigmask@" OLDEST_GLIBC);

// condition_variable::wait, versioned anew by GCC 12.
__asm__(".symver _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE, "
        "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.11");

// glibc 2.30. Without it wait_for() goes through the system clock and pthread_cond_timedwait.
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT

// glibc 2.32: whether atomic counts may be counted without atomics. Never, then: Node always has threads.
extern "C" {
__attribute__((weak, visibility("hidden"))) char __libc_single_threaded = 0;
}

// glibc 2.33; an inline function around an older symbol before that.
extern "C" {
__attribute__((weak, visibility("hidden"))) int fstatat64(int dirfd, const char* path, struct stat64* result,
                                                          int flags) noexcept {
  return static_cast<int>(syscall(SYS_newfstatat, dirfd, path, result, flags));
}
}

// GCC 11, for sizes that overflow. Without exceptions the library's own would abort as well.
namespace std {
__attribute__((weak)) void __throw_bad_array_new_length() { __builtin_abort(); }
}  // namespace std
