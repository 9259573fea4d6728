/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_vm.c - the calls that Cloud Hypervisor has too: its OpenAPI file, cloud-hypervisor.yaml.  One machine a process,
 * and it exists as long as that: what ends the machine ends the VMM.
 */
#include <errno.h>
#include <unistd.h>

#include "lodge_config.h"
#include "config/json.h"
#include "display/vnc.h"
#include "vm/api_internal.h"

static void ping(struct http_call *c)
{
    http_json(c, json_pack("{s:s, s:s, s:i, s:[]}", "build_version", "lodge-" LODGE_VERSION, "version", LODGE_VERSION,
                           "pid", vm_of(c)->run->pid ? vm_of(c)->run->pid : (int)getpid(), "features"));
}

/* VmInfo. `config` is what Cloud Hypervisor's VmConfig has a place for; `lodge` is all of it, as in vm.yaml. */
static void info(struct http_call *c)
{
    const struct vm *v = vm_of(c);
    const struct vm_config *k = v->config;

    http_json(c, json_pack("{s:o, s:o, s:s, s:I, s:s, s:s*}", "config", config_to_api(k), "lodge", config_to_json(k), "state",
                           vm_state(v) == VM_RUNNING ? "Running" : "Paused", "memory_actual_size", (json_int_t)k->memory, "engine",
                           v->engine->name, "vnc", v->vnc ? vnc_address(v->vnc) : NULL));
}

static void pause_(struct http_call *c)
{
    if (vm_pause(vm_of(c)))
        http_fail(c, HTTP_METHOD_NOT_ALLOWED,
                  vm_state(vm_of(c)) == VM_PAUSED ? "the machine is paused already" : "the machine has ended");
    else
        http_done(c, HTTP_NO_CONTENT);
}

static void resume(struct http_call *c)
{
    if (vm_resume(vm_of(c)))
        http_fail(c, HTTP_METHOD_NOT_ALLOWED,
                  vm_state(vm_of(c)) == VM_WAITING ? "the machine waits for a disk, and goes on by itself" : "the machine is not paused");
    else
        http_done(c, HTTP_NO_CONTENT);
}

static void power_button(struct http_call *c)
{
    if (!machine_power_button(vm_of(c)->machine))
        http_fail(c, HTTP_METHOD_NOT_ALLOWED,
                 "the guest does not listen to the power button (ACPI); vm.shutdown turns it off");
    else
        http_done(c, HTTP_NO_CONTENT);
}

/* 202: the guest masks it for the time being. */
static void nmi(struct http_call *c)
{
    http_done(c, machine_nmi(vm_of(c)->machine) ? HTTP_NO_CONTENT : HTTP_ACCEPTED);
}

static void reboot(struct http_call *c)
{
    vm_ask(vm_of(c), MACHINE_RESET);
    http_done(c, HTTP_NO_CONTENT);
}

static void shut_down(struct http_call *c)
{
    vm_ask(vm_of(c), MACHINE_POWER_OFF);
    http_done(c, HTTP_NO_CONTENT);
}

const struct http_route api_vm_routes[] = {
    { "GET", "vmm.ping", HTTP_NO_BODY, ping },
    { "PUT", "vmm.shutdown", HTTP_NO_BODY, shut_down },
    { "GET", "vm.info", HTTP_NO_BODY, info },
    { "PUT", "vm.pause", HTTP_NO_BODY, pause_ },
    { "PUT", "vm.resume", HTTP_NO_BODY, resume },
    { "PUT", "vm.power-button", HTTP_NO_BODY, power_button },
    { "PUT", "vm.nmi", HTTP_NO_BODY, nmi },
    { "PUT", "vm.reboot", HTTP_NO_BODY, reboot },
    { "PUT", "vm.shutdown", HTTP_NO_BODY, shut_down },
    { NULL, NULL, HTTP_NO_BODY, NULL },
};
