#!/usr/bin/perl
# Sends small UDP packets into an interface and prints the nanoseconds per packet. This includes the
# forwarding, because on one processor the kernel forwards a packet before the next is sent.
# Arguments: interface, hardware address of its peer, packets, rules. The packets match 1024 of the
# rules in turn.
use strict; use warnings; use Time::HiRes 'clock_gettime', 'CLOCK_MONOTONIC';
my ($name, $peer, $count, $rules) = @ARGV;
socket(my $socket, 17, 3, 0) or die "socket: $!";
my $index = `ip -o link show $name` =~ /^(\d+)/ ? $1 : die "no $name";
bind($socket, pack('SnlSCCa8', 17, 0x0800, $index, 0, 0, 0, '')) or die "bind: $!";
my @frames;
for my $i (0 .. 1023) {
    my $r = int($i * $rules / 1024);
    my @ends = (10, 0, int($r / 256), $r % 256, 198, 18, int($r / 256), $r % 256);
    my $head = pack('nnnnCCn', 0x4500, 46, 0, 0, 64, 17, 0) . pack('C8', @ends);
    my $sum = 0; $sum += $_ for unpack('n*', $head);
    $sum = ($sum >> 16) + ($sum & 0xFFFF) while $sum >> 16;
    substr($head, 10, 2) = pack('n', ~$sum & 0xFFFF);
    push @frames, pack('H12H12n', $peer =~ tr/://dr, '020000000009', 0x0800) . $head . pack('nnnn', 40_000 + $i, 1000 + $r, 26, 0) . ('x' x 18);
}
send($socket, $frames[$_ & 1023], 0) for 1 .. 2048;
my $start = clock_gettime(CLOCK_MONOTONIC);
send($socket, $frames[$_ & 1023], 0) for 1 .. $count;
printf "%.0f\n", (clock_gettime(CLOCK_MONOTONIC) - $start) / $count * 1e9;
