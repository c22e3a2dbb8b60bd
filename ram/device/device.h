#pragma once

// A device as people name it, and how much of its memory a model may take.
//
//   DEVICE = this                      the machine ram runs on
//          | [WORD ...] SIZE [WORD ...] [usable SIZE]
//
//   SIZE   = "16GB", "16 GB", "16GiB", "1.5TB", "512MiB". Memory is sold in powers of two, so here,
//            and only here, GB reads as GiB: a 16GB Mac has 16 GiB.
//   WORD   = what it is: mac (or macbook, imac, studio, a chip: m1 ... m9), gpu, pc or linux.
//            Without one: mac, because that is where MLX runs. pro, max, ultra, air, mini, ram,
//            memory and the like are allowed and mean nothing.
//   usable = (or wired) states the limit instead of the rule below.
//
// What of the memory may hold a model, a rule of thumb for each kind:
//   mac        the GPU may wire 2/3 of up to 36 GiB, 3/4 of more. Recent systems allow more; see
//              `sysctl iogpu.wired_limit_mb`, which also raises it.
//   gpu        all but 1/16, at most 1 GiB, for driver and display.
//   pc, linux  all but 1/4, at most 4 GiB, for the system.
// Source: docs/device.md.

#include <cstdint>
#include <string>
#include <string_view>

#include "ram/base/result.h"
#include "ram/device/machine.h"

namespace ram {

enum class DeviceKind : uint8_t { kMac, kGpu, kPc };

struct Device {
  std::string name;  // As it was written.
  DeviceKind kind = DeviceKind::kMac;
  uint64_t memory_bytes = 0;
  uint64_t usable_bytes = 0;  // <= memory_bytes
  std::string usable_why;     // How usable_bytes follows from memory_bytes, in a few words.
};

// kInvalidArgument quotes the text and the word that is not understood.
Result<Device> ParseDevice(std::string_view text);

// The machine as a device: the limits that the system really sets win over the rules of thumb.
Device DeviceOf(const Machine& machine);

}  // namespace ram
