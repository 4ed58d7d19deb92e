; The guest of the conformance suite: a boot sector, and the sectors after it, in real mode.
;
; It answers the serial protocol, version 1, that fakes/guest/protocol.go describes. It needs a PC BIOS
; (int 13h), a serial port at 3F8h, the PC timer and interrupt controller, and for the power button the
; ACPI registers where SeaBIOS puts them on QEMU's machine types pc and q35.
;
;       nasm -f bin -o guest.bin guest.asm
;
; How it spends its time: it sleeps in hlt. The timer wakes it 250 times a second, the serial port at each
; byte. On each wake it looks at the power button, then at the serial port.

        cpu     386
        bits    16
        org     0x7C00

VERSION         equ 0x4D4D0001          ; "MM", 1
SLOTS           equ 16
FIRST_MARK_LBA  equ 16
DISK_MAGIC      equ 'MMrk'
MEMORY_MAGIC    equ 'MMmk'
MARKS           equ 0x2000              ; segment of memory mark 0; each mark is in a page of its own
FRAME_TIMEOUT   equ 250                 ; ticks
LAST_WORDS      equ 250                 ; ticks to wait for the last byte to leave before the machine ends

DIVISOR         equ 4773                ; 1193182 Hz / 4773 = 249.99 Hz
BIOS_TICKS      equ 0x46C               ; the BIOS's own count, 18.2 a second
STACK           equ 0x7C00
SECTOR          equ 0x9000              ; a disk sector comes and goes here

COM             equ 0x3F8
COM_IER         equ COM + 1
COM_FCR         equ COM + 2
COM_LCR         equ COM + 3
COM_MCR         equ COM + 4
COM_LSR         equ COM + 5
LSR_DATA        equ 0x01
LSR_THR_EMPTY   equ 0x20
LSR_EMPTY       equ 0x40

PM1_STS         equ 0x600
PM1_EN          equ 0x602
PM1_CNT         equ 0x604
PM1_BUTTON      equ 0x0100
PM1_SLEEP_S5    equ 0x2000              ; SLP_EN, and type 0, which is S5 here

OK              equ 0
UNKNOWN_OP      equ 1
BAD_SLOT        equ 2
DISK_ERROR      equ 3

; ---------------------------------------------------------------- boot sector

start:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, STACK
        jmp     0:.here                 ; some BIOSes start at 07C0:0000
.here:
        cld
        sti
        mov     [drive], dl
        mov     si, load
        mov     ah, 0x42                ; by LBA: the geometry of so small a disk is anybody's guess
        int     0x13
        jnc     main
.failed:
        cli
        hlt
        jmp     .failed

drive:  db      0

        align   4, db 0
load:   db      16, 0                   ; disk address packet: the sectors that follow this one
        dw      REST_SECTORS
        dw      rest, 0
        dq      1

; The partition table stays empty: SeaBIOS and disk tools would read code there as partitions.
        times   446 - ($ - $$) db 0
        times   64 db 0
        dw      0xAA55

; ---------------------------------------------------------------- the rest

rest:

main:
        call    set_up
        mov     byte [reply_op], 'B'
        mov     byte [reply_tag], 0xFF
        mov     byte [reply_status], OK
        mov     dword [reply_value], VERSION
        call    send

wake:
        call    button
        call    late
        cli                             ; from the look at the port to hlt no interrupt may come between:
        mov     dx, COM_LSR             ; hlt would sleep over the byte that it announced
        in      al, dx
        test    al, LSR_DATA
        jnz     .byte
        sti                             ; takes effect after the next instruction
        hlt
        jmp     wake
.byte:
        sti
        mov     dx, COM
        in      al, dx
        call    receive
        jmp     wake

; set_up brings devices, interrupt vectors and variables into their first state.
set_up:
        cli
        mov     di, variables
        mov     cx, VARIABLES_SIZE
        xor     al, al
        rep stosb
        mov     byte [mode], 1          ; obey

        mov     dx, MARKS
        mov     cx, SLOTS
.mark:
        mov     es, dx
        mov     dword [es:0], MEMORY_MAGIC
        mov     dword [es:4], 0
        add     dx, 0x100
        loop    .mark
        push    ds
        pop     es

        ; The BIOS's timer handler is not called any more. It would poll the serial port itself where the
        ; BIOS has its console there (qemu -nographic) and take our bytes; all that int 13h can need of
        ; it is the count, which irq0 goes on with.
        mov     word [0x08 * 4], irq0
        mov     word [0x08 * 4 + 2], 0
        mov     word [0x0C * 4], irq4
        mov     word [0x0C * 4 + 2], 0

        mov     al, 0x34                ; counter 0, low and high byte, rate generator
        out     0x43, al
        mov     al, DIVISOR & 0xFF
        out     0x40, al
        mov     al, DIVISOR >> 8
        out     0x40, al
        in      al, 0x21
        and     al, ~0x11 & 0xFF        ; timer and first serial port
        out     0x21, al

        ; 115200 baud, 8N1. The FIFO stays off: to switch it clears it, and with it what was sent early.
        mov     dx, COM_LCR
        mov     al, 0x83
        out     dx, al
        mov     dx, COM
        mov     al, 1
        out     dx, al
        mov     dx, COM_IER
        xor     al, al
        out     dx, al
        mov     dx, COM_LCR
        mov     al, 0x03
        out     dx, al
        mov     dx, COM_MCR
        mov     al, 0x0B                ; DTR, RTS, and OUT2, which lets the interrupt through
        out     dx, al
        mov     dx, COM_IER
        mov     al, 0x01                ; interrupt when a byte has come
        out     dx, al

        ; Without its enable bit QEMU drops a press of the button.
        mov     dx, PM1_EN
        in      ax, dx
        or      ax, PM1_BUTTON
        out     dx, ax
        mov     dx, PM1_STS
        mov     ax, PM1_BUTTON
        out     dx, ax
        sti
        ret

irq0:
        push    ax
        push    ds
        xor     ax, ax
        mov     ds, ax
        inc     dword [ticks]
        add     word [fraction], DIVISOR
        jnc     .done
        inc     dword [BIOS_TICKS]      ; 65536 timer clocks have passed
.done:
        mov     al, 0x20
        out     0x20, al
        pop     ds
        pop     ax
        iret

irq4:                                   ; only wakes; the main loop reads the byte
        push    ax
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret

; button sees whether the power button was pressed, tells, and does what the mode says.
button:
        mov     dx, PM1_STS
        in      ax, dx
        test    ax, PM1_BUTTON
        jz      .done
        cmp     ax, 0xFFFF              ; no such registers here
        je      .done
        mov     ax, PM1_BUTTON          ; a 1 clears the bit
        out     dx, ax
        inc     dword [presses]
        mov     byte [reply_op], 'P'
        mov     byte [reply_tag], 0xFF
        mov     byte [reply_status], OK
        mov     eax, [presses]
        mov     [reply_value], eax
        call    send
        mov     al, [mode]
        cmp     al, 1
        je      power_off
        cmp     al, 2
        jne     .done
        cmp     byte [is_late], 0
        jne     .done                   ; the first press decides when
        mov     eax, [ticks]
        add     eax, [delay]
        mov     [late_at], eax
        mov     byte [is_late], 1
.done:
        ret

; late switches off when a press in mode 2 has waited long enough.
late:
        cmp     byte [is_late], 0
        je      .done
        mov     eax, [ticks]
        sub     eax, [late_at]
        jns     power_off
.done:
        ret

; receive takes the byte in al.
receive:
        mov     ebx, [ticks]
        mov     ecx, ebx
        sub     ecx, [frame_tick]
        cmp     ecx, FRAME_TIMEOUT
        jbe     .in_time
        mov     word [frame_len], 0
.in_time:
        mov     si, [frame_len]
        test    si, si
        jnz     .store
        cmp     al, 0xA5
        jne     .done
.store:
        mov     [frame + si], al
        inc     si
        mov     [frame_len], si
        mov     [frame_tick], ebx
        cmp     si, 8
        jne     .done
        mov     word [frame_len], 0
        jmp     obey
.done:
        ret

; obey carries out the request in frame and answers it.
obey:
        mov     al, [frame + 1]
        mov     [reply_op], al
        mov     ah, [frame + 2]
        mov     [reply_tag], ah
        mov     byte [reply_status], OK
        mov     ebx, [frame + 4]
        mov     [reply_value], ebx
        mov     si, operations
.find:
        cmp     byte [si], 0
        je      .unknown
        cmp     al, [si]
        je      .found
        add     si, OPERATION_SIZE
        jmp     .find
.unknown:
        mov     byte [reply_status], UNKNOWN_OP
        jmp     send
.found:
        mov     al, [frame + 3]         ; slot
        cmp     al, [si + 1]
        ja      .bad_slot
        movzx   di, al
        call    [si + 2]
        jmp     send
.bad_slot:
        mov     byte [reply_status], BAD_SLOT
        jmp     send

; op, highest slot, what to do. It gets the slot in di and the value in ebx, and may use all registers.
%macro  operation 3
        db      %1, %2
        dw      %3
%endmacro
OPERATION_SIZE equ 4
operations:
        operation 'i', 0xFF, do_identify
        operation 'c', 0xFF, do_counter
        operation 'g', SLOTS - 1, do_get_memory
        operation 's', SLOTS - 1, do_set_memory
        operation 'r', 2 * SLOTS - 1, do_get_disk
        operation 'w', 2 * SLOTS - 1, do_set_disk
        operation 'b', 2, do_button
        operation 'p', 0xFF, do_presses
        operation 'h', 0xFF, do_hang
        operation 'x', 0xFF, do_reset
        operation 'o', 0xFF, do_power_off
        db      0

do_identify:
        mov     dword [reply_value], VERSION
        ret

do_counter:
        mov     eax, [ticks]
        mov     [reply_value], eax
        ret

do_presses:
        mov     eax, [presses]
        mov     [reply_value], eax
        ret

do_get_memory:
        call    mark_segment
        mov     eax, [es:4]
        mov     [reply_value], eax
        push    ds
        pop     es
        ret

do_set_memory:
        call    mark_segment
        mov     [es:4], ebx
        push    ds
        pop     es
        ret

mark_segment:                           ; es = segment of memory mark di
        shl     di, 8
        add     di, MARKS
        mov     es, di
        ret

do_get_disk:
        mov     ah, 0x42
        call    disk
        jc      disk_failed
        xor     eax, eax
        cmp     dword [SECTOR], DISK_MAGIC
        jne     .none
        mov     eax, [SECTOR + 4]
.none:
        mov     [reply_value], eax
        ret

do_set_disk:
        push    di
        mov     di, SECTOR
        mov     cx, 512
        xor     al, al
        rep stosb
        pop     di
        mov     dword [SECTOR], DISK_MAGIC
        mov     [SECTOR + 4], ebx
        mov     ax, 0x4300              ; write, without verifying
        call    disk
        jc      disk_failed
        ret

disk_failed:
        mov     byte [reply_status], DISK_ERROR
        mov     dword [reply_value], 0
        ret

; disk does the int 13h function in ax with the sector of mark di. Carry tells of an error. From SLOTS on marks are
; those of the second disk, which the BIOS has at the number behind that of the disk that it booted from.
disk:
        mov     dl, [drive]
        cmp     di, SLOTS
        jb      .first
        sub     di, SLOTS
        inc     dl
.first:
        add     di, FIRST_MARK_LBA
        movzx   edi, di
        mov     [packet.lba], edi
        mov     dword [packet.lba + 4], 0
        mov     dword [packet.size], 0x00010010
        mov     dword [packet.to], SECTOR
        mov     si, packet
        int     0x13
        sti
        cld
        push    0                       ; what a BIOS does to segment registers is not agreed upon; push, pop
        pop     ds                      ; and mov leave the flags alone
        push    0
        pop     es
        ret

do_button:
        mov     ax, di
        mov     [mode], al
        mov     [delay], ebx
        mov     byte [is_late], 0
        ret

do_hang:
        call    send
        cli
.for_ever:
        hlt
        jmp     .for_ever

do_reset:
        call    send
        call    drain
        mov     dx, 0xCF9
        mov     al, 0x06                ; hard reset, now
        out     dx, al
        mov     al, 0xFE                ; where that did nothing, through the keyboard controller
        out     0x64, al
        jmp     dead

do_power_off:
        call    send
power_off:
        call    drain
        mov     dx, PM1_CNT
        mov     ax, PM1_SLEEP_S5
        out     dx, ax
dead:
        cli
        hlt
        jmp     dead

; drain waits until the last byte has left the serial port, but not for ever.
drain:
        mov     ecx, [ticks]
        mov     dx, COM_LSR
.wait:
        in      al, dx
        test    al, LSR_EMPTY
        jnz     .done
        mov     ebx, [ticks]
        sub     ebx, ecx
        cmp     ebx, LAST_WORDS
        jb      .wait
.done:
        ret

; send writes the reply. Where the other end does not take it, the guest waits here.
send:
        mov     si, reply
        mov     cx, 8
.next:
        mov     dx, COM_LSR
.wait:
        in      al, dx
        test    al, LSR_THR_EMPTY
        jz      .wait
        mov     dx, COM
        lodsb
        out     dx, al
        loop    .next
        ret

reply:          db 0x5A
reply_op:       db 0
reply_tag:      db 0
reply_status:   db 0
reply_value:    dd 0

        times   (512 - ($ - $$) % 512) % 512 db 0
REST_SECTORS    equ ($ - rest) / 512
%if REST_SECTORS >= FIRST_MARK_LBA
%error "the code reaches into the disk marks"
%endif

        absolute 0x8E00                 ; variables, zero at boot

variables:
ticks:          resd 1                  ; timer interrupts since boot
presses:        resd 1
delay:          resd 1                  ; ticks, of mode 2
late_at:        resd 1
frame_tick:     resd 1                  ; when the last byte of frame came
frame:          resb 8
frame_len:      resw 1
fraction:       resw 1                  ; timer clocks since BIOS_TICKS was counted
mode:           resb 1                  ; of the power button: 0 ignore, 1 obey, 2 obey late
is_late:        resb 1                  ; a press waits for late_at
                alignb 4
packet:                                 ; disk address packet
.size:          resd 1
.to:            resd 1
.lba:           resq 1
VARIABLES_SIZE  equ $ - variables
