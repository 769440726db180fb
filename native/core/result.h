// A failed system call as a value: what was called, on what, and why it failed.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <utility>

namespace overlayfs {

struct SysError {
  int err = 0;
  const char* call = "";  // the system call's own name
  std::string arguments;  // what it was called with, as a person would write it
  std::string path;       // the path it was about, in bytes, where there is one
  std::string kernel;     // what the kernel itself said (file system context log), where it said anything
};

// The error of the call that has just failed; read errno before anything else can change it.
inline SysError failed(const char* call, std::string arguments = {}, std::string path = {}) {
  return {errno, call, std::move(arguments), std::move(path), {}};
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(SysError error) : error_(std::move(error)) {}

  explicit operator bool() const { return value_.has_value(); }
  T& operator*() & { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  SysError& error() { return error_; }

 private:
  std::optional<T> value_;
  SysError error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(SysError error) : failed_(true), error_(std::move(error)) {}

  explicit operator bool() const { return !failed_; }
  void operator*() const {}
  SysError& error() { return error_; }

 private:
  bool failed_ = false;
  SysError error_;
};

// The value of a Result, or an early return of its error.
#define TRY(expression)                              \
  ({                                                 \
    auto result_ = (expression);                     \
    if (!result_) return std::move(result_).error(); \
    *std::move(result_);                             \
  })

}  // namespace overlayfs
