//! The place that the tests of this binary speak of: two workers with two interfaces each, a service, pods.

/// Addresses of the tutorial: load balancer 169.1.1.1:80, node port 31024, client 1.1.1.1, worker 10.1.1.1.
pub const GATEWAY: &str = "
node: gw-1
ports: { uplink: { interface: up0 }, downlink: { interface: dn0 } }
segments:
  - { name: public, cidrs: [10.1.1.0/24, 169.1.1.0/24], hostEndpoint: worker-1-public }
  - { name: private, cidrs: [10.9.9.0/24], hostEndpoint: worker-1-private }
  - { name: pods, cidrs: [172.30.0.0/16] }
";

/// Two workers.
pub const WORKERS: (&str, &str) = (
    "workers.yaml",
    "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-1-public, labels: { ibm.role: worker_public, edge: 'true' } }
spec: { node: worker-1, interfaceName: eth1, expectedIPs: [10.1.1.1] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-1-private, labels: { ibm.role: worker_private } }
spec: { node: worker-1, interfaceName: eth0, expectedIPs: [10.9.9.1] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-2-public, labels: { ibm.role: worker_public } }
spec: { node: worker-2, interfaceName: eth1, expectedIPs: [10.1.1.2] }
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: worker-2-private, labels: { ibm.role: worker_private } }
spec: { node: worker-2, interfaceName: eth0, expectedIPs: [10.9.9.2] }
",
);

/// The web server of the tutorial, TCP and UDP, with its load balancer and node port.
pub const SERVICE: (&str, &str) = (
    "service.yaml",
    "
apiVersion: v1
kind: Service
metadata: { name: webserver-lb, namespace: default, labels: { run: webserver } }
spec:
  type: LoadBalancer
  selector: { run: webserver }
  ports:
    - { name: webserver-port, port: 80, protocol: TCP, targetPort: 8080, nodePort: 31024 }
    - { name: webserver-udp, port: 80, protocol: UDP, targetPort: 8080, nodePort: 31024 }
status: { loadBalancer: { ingress: [{ ip: 169.1.1.1 }] } }
---
apiVersion: v1
kind: Pod
metadata: { name: webserver-1, namespace: default, labels: { run: webserver } }
spec: { containers: [{ name: web, ports: [{ containerPort: 8080 }] }] }
status: { phase: Running, podIP: 172.30.1.10 }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: default, labels: { run: client } }
spec: { containers: [{ name: c }] }
status: { phase: Running, podIP: 172.30.2.20 }
",
);

/// A pod in one line.
pub fn pod(namespace: &str, name: &str, address: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: {namespace}, labels: {{ {labels} }} }}\n\
         spec: {{ containers: [{{ name: c }}] }}\nstatus: {{ phase: Running, podIP: {address} }}\n"
    )
}

/// A namespace in one line.
pub fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ {labels} }} }}\n")
}

/// A GlobalNetworkPolicy from the text of its spec.
pub fn global(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {name} }}\nspec: {spec}\n"
    )
}

/// A Kubernetes NetworkPolicy from the text of its spec.
pub fn kubernetes(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{ name: {name}, namespace: {namespace} }}\nspec: {spec}\n"
    )
}

/// A preDNAT policy for worker_public.
pub fn prednat(name: &str, order: u32, rules: &str) -> String {
    global(
        name,
        &format!(
            "{{ order: {order}, preDNAT: true, applyOnForward: true, selector: \"ibm.role=='worker_public'\", \
             types: [Ingress], ingress: [{rules}] }}"
        ),
    )
}

/// The tutorial's deny-nodeports.
pub fn deny_nodeports() -> String {
    prednat(
        "deny-nodeports",
        1100,
        "{ action: Deny, protocol: TCP, source: {}, destination: { ports: ['30000:32767'] } }, \
         { action: Deny, protocol: UDP, source: {}, destination: { ports: ['30000:32767'] } }",
    )
}

/// A rule of the tutorial about the load balancer's port 80.
pub fn balancer_rule(action: &str, protocol: &str, source: &str) -> String {
    format!(
        "{{ action: {action}, protocol: {protocol}, source: {{ {source} }}, \
         destination: {{ nets: [169.1.1.1/32], ports: [80] }} }}"
    )
}
